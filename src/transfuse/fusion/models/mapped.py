"""Models whose weights are mapped from files while they run on samples, so that memory need not hold them.

What an alignment makes of them (canonical forms, parents in the anchor's basis) is written to temporary files and
mapped as well. Memory holds one model, the fused one, besides statistics, caches and batches.
"""

from pathlib import Path

from transformers import PreTrainedModel

from transfuse.checkpoint.reading.mapped_model import map_model
from transfuse.checkpoint.reading.spill import TensorSpill
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import Network, checked_declaration
from transfuse.network.precision import matmul_dtype


def mapped_network(folder: Path, model: PreTrainedModel, spill: TensorSpill) -> Network:
    """Return a checkpoint as a network that runs, with weights mapped from its files.

    Args:
        model: the model without weights.
        spill: writes and maps what is computed from the weights and used again.

    Raises:
        TransfuseError: the weights cannot be mapped, are not finite, or do not match the declaration.
    """
    mapped = map_model(folder, model, spill)
    spec = checked_declaration(mapped)
    stored = {name: values.detach() for name, values in mapped.state_dict().items()}
    tensors = spill(split_fused(spec, stored))
    return Network(mapped, unfused(spec), tensors, matmul_dtype(model.dtype), spill, str(folder), model.dtype)
