"""How similar the residual streams of two models of different depths are behind each of their blocks, on samples.

Streams are compared by linear CKA (Kornblith et al., 1905.00414), which needs no common basis. Where norms follow the
additions, each unit is brought to the same variance before, because the gain of such a norm says nothing about what the
block computes.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.activations.execution_order import block_stack, execution_steps, forward_hooks
from transfuse.base.batch import Batch, cast, on_device, without_labels
from transfuse.fusion.sizes.block_operations import block_operations, stream_norms
from transfuse.network.model import declaration

TINY = 1e-30  # instead of a norm of zero
MAX_ROWS = 512  # tokens, or patches, that streams are compared on


def stream_similarity(anchor: PreTrainedModel, source: PreTrainedModel, batch: Batch) -> Float[Tensor, "own place"]:
    """Return the similarity of the streams behind each block of the source and each block of the anchor, at most 1.

    Args:
        batch: samples that both models read.
    """
    grams = [_grams(model, batch) for model in (source, anchor)]
    return torch.stack([torch.stack([(one * other).sum() for other in grams[1]]) for one in grams[0]])


@torch.no_grad()
def _grams(model: PreTrainedModel, batch: Batch) -> list[Float[Tensor, "row row"]]:
    """Return the products of the centered streams of all rows behind each block, of norm one."""
    outputs: list[Tensor] = []

    def keep(block: torch.nn.Module, inputs: object, output: Tensor | Sequence[Tensor]) -> None:
        values = output if isinstance(output, Tensor) else output[0]
        outputs.append(values.flatten(0, -2))

    inputs = on_device(cast(without_labels(batch), model.dtype), model.device)
    trunk = model.base_model  # heads may not take the samples
    blocks = [trunk.get_submodule(step.name) for step in execution_steps(trunk, inputs) if step.is_block]
    with forward_hooks(blocks, keep):
        trunk(**inputs)
    step = max(1, -(-len(outputs[0]) // MAX_ROWS))
    rows = [(values[::step] - values[::step].mean(0)).double().cpu() for values in outputs]
    if _has_stream_norms(model, len(blocks)):
        rows = [values / values.norm(dim=0).clamp_min(TINY) for values in rows]
    grams = [values @ values.T for values in rows]
    return [gram / gram.norm().clamp_min(TINY) for gram in grams]


def _has_stream_norms(model: PreTrainedModel, count: int) -> bool:
    """Return whether the stream behind a block is the output of a norm."""
    stack, _ = block_stack(model, count)
    return bool(stream_norms(block_operations(declaration(model), f"{stack}.0.")))
