"""Which block of the anchor each block of a model with fewer blocks belongs to, by their residual streams on samples.

Streams are compared by linear CKA (Kornblith et al., 1905.00414), which needs no common basis. Dynamic programming
finds the places in order whose sum of similarities is largest.
"""

from collections.abc import Sequence
from itertools import pairwise
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
from transfuse.fusion.depth import PlacesFn

SAMPLES = 32  # that streams are compared on
MAX_ROWS = 512  # tokens, or patches, that streams are compared on
MARGIN = 1e-6  # by which a later place has to be better: blocks that do nothing leave the stream as it is


def sampled_places(source: Model, data: Any, options: Options, processor: Any = None) -> PlacesFn:
    """Return a function that decides by some samples where the blocks of a model go.

    Args:
        source: the path of the anchor or the loaded anchor, whose processor prepares the samples, unless one is given.
        data: the samples, as `fuse` takes them.
    """

    def places(anchor: PreTrainedModel, shallow: PreTrainedModel) -> list[int] | None:
        """Return the places, or None for models with different vocabularies."""
        if getattr(shallow.config, "vocab_size", None) != getattr(anchor.config, "vocab_size", None):
            return None
        samples = readable(open_samples(data, options, CALIBRATION), anchor).take(SAMPLES, options.seed)
        samples = in_blocks(samples, anchor, source, processor, options).take(SAMPLES, options.seed)
        return places_by_streams(anchor, shallow, prepare(samples, anchor, source, options, processor)[0])

    return places


def places_by_streams(anchor: PreTrainedModel, source: PreTrainedModel, batch: Batch) -> list[int]:
    """Return the number of the anchor's block that each block of the source belongs to, in order.

    Args:
        batch: samples that both models read.
    """
    grams = [_grams(model, batch) for model in (source, anchor)]
    similarity = torch.stack([torch.stack([(one * other).sum() for other in grams[1]]) for one in grams[0]])
    return best_places(similarity)


def best_places(similarity: Float[Tensor, "own place"]) -> list[int]:
    """Return increasing places with the largest sum of similarities. The first block comes first.

    Of equal sums, the one with the earliest places is returned.
    """
    own, count = similarity.shape
    best = torch.full((own, count), -torch.inf, dtype=similarity.dtype)
    previous = torch.zeros(own, count, dtype=torch.long)
    best[0, 0] = similarity[0, 0]
    for block in range(1, own):
        for place in range(block, count - (own - 1 - block)):
            earlier = 0
            for other in range(1, place):
                if best[block - 1, other] > best[block - 1, earlier] + MARGIN:
                    earlier = other
            best[block, place] = best[block - 1, earlier] + similarity[block, place]
            previous[block, place] = earlier
    last = 0
    for place in range(1, count):
        if best[-1, place] > best[-1, last] + MARGIN:
            last = place
    places = [last]
    for block in range(own - 1, 0, -1):
        places.insert(0, int(previous[block, places[0]]))
    assert all(one < other for one, other in pairwise(places))
    return places


@torch.no_grad()
def _grams(model: PreTrainedModel, batch: Batch) -> list[Float[Tensor, "row row"]]:
    """Return the products of the centered streams of all rows behind each block, of norm one."""
    outputs: list[Tensor] = []

    def keep(block: torch.nn.Module, inputs: object, output: Tensor | Sequence[Tensor]) -> None:
        values = output if isinstance(output, Tensor) else output[0]
        outputs.append(values.flatten(0, -2))

    inputs = {name: values.to(model.device) for name, values in without_labels(batch).items()}
    blocks = [model.get_submodule(step.name) for step in execution_steps(model, batch) if step.is_block]
    with forward_hooks(blocks, keep):
        model(**inputs)
    step = max(1, -(-len(outputs[0]) // MAX_ROWS))
    rows = [(values[::step] - values[::step].mean(0)).double().cpu() for values in outputs]
    grams = [values @ values.T for values in rows]
    return [gram / gram.norm().clamp_min(1e-30) for gram in grams]
