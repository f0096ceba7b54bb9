"""What a layer of experts reads in the small model, and what it should write there."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.activations.prefix_cache import PrefixCache
from transfuse.base.batch import Batch
from transfuse.shrinking.experts.layer import ExpertLayer


@dataclass(frozen=True, eq=False)
class Rows:
    """Tokens of some samples.

    Attributes:
        x: what the layer reads in the small model.
        target: what it should write: the large layer's output, and what the small stream in front of it lacks.
    """

    x: Float[Tensor, "row inputs"]
    target: Float[Tensor, "row outputs"]

    def first(self, count: int) -> "Rows":
        """Return evenly spaced rows, at least `count` and fewer than twice as many, or all if there are fewer."""
        step = max(1, len(self.x) // count)
        return Rows(self.x[::step], self.target[::step])


@torch.no_grad()
def observed_rows(layer: ExpertLayer, large: PrefixCache, small: PrefixCache, batches: Sequence[Batch]) -> Rows:
    """Return the rows of a layer on some batches."""
    parts = []
    for batch in batches:
        here = large.observe([layer.inputs, layer.outputs, *layer.stream], batch)
        there = small.observe([layer.inputs, *layer.stream], batch)
        target = here[layer.outputs]
        for point in layer.stream:
            target = target + (here[point] - there[point]) / layer.factor
        parts.append((there[layer.inputs].flatten(0, -2), target.flatten(0, -2)))
    return Rows(torch.cat([x for x, _ in parts]), torch.cat([target for _, target in parts]))
