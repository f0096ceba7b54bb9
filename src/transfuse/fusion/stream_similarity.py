"""How similar the residual streams of two models of different depths are behind each of their blocks, on samples.

Streams are compared by linear CKA (Kornblith et al., 1905.00414), which needs no common basis.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.activations.execution_order import execution_steps, forward_hooks
from transfuse.base.batch import Batch, without_labels
from transfuse.config.options import Options
from transfuse.data.blocks import in_blocks
from transfuse.data.load import open_samples
from transfuse.data.splits import CALIBRATION
from transfuse.fusion.calibration import prepare, readable
from transfuse.fusion.compatible import Model
from transfuse.fusion.depth import SimilarityFn

INPUT_SIZES = ("vocab_size", "image_size", "num_channels", "patch_size")  # in configurations
SAMPLES = 32  # that streams are compared on
MAX_ROWS = 512  # tokens, or patches, that streams are compared on


def sampled_similarity(source: Model, data: Any, options: Options, processor: Any = None) -> SimilarityFn:
    """Return a function that compares two models on some samples.

    Args:
        source: the path of the anchor or the loaded anchor, whose processor prepares the samples, unless one is given.
        data: the samples, as `fuse` takes them.
    """

    def similarity(anchor: PreTrainedModel, shallow: PreTrainedModel) -> Float[Tensor, "own place"] | None:
        """Return the similarities, or None for models that do not read the same inputs."""
        if any(getattr(shallow.config, name, None) != getattr(anchor.config, name, None) for name in INPUT_SIZES):
            return None
        samples = readable(open_samples(data, options, CALIBRATION), anchor).take(SAMPLES, options.seed)
        samples = in_blocks(samples, anchor, source, processor, options).take(SAMPLES, options.seed)
        return stream_similarity(anchor, shallow, prepare(samples, anchor, source, options, processor)[0])

    return similarity


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

    inputs = {name: values.to(model.device) for name, values in without_labels(batch).items()}
    trunk = model.base_model  # heads may not take the samples
    blocks = [trunk.get_submodule(step.name) for step in execution_steps(trunk, batch) if step.is_block]
    with forward_hooks(blocks, keep):
        trunk(**inputs)
    step = max(1, -(-len(outputs[0]) // MAX_ROWS))
    rows = [(values[::step] - values[::step].mean(0)).double().cpu() for values in outputs]
    grams = [values @ values.T for values in rows]
    return [gram / gram.norm().clamp_min(1e-30) for gram in grams]
