"""Samples of the units of stacked layers, such as the hidden units of experts, compared for two layers at a time.

The products of all pairs of units of 64 experts with 1,024 hidden units each would take 34 GB.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.network.axes import leaves
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.transport.cost import HALF_PRECISION

MAX_UNITS = 4096  # units of all layers of a stack up to which all pairs are compared


@dataclass(frozen=True, eq=False)
class StackedSamples:
    """Paired samples of the units of stacked layers.

    Attributes:
        x, y: the samples of each layer, of the source and of the target.
        factor: what second moments are multiplied by.
    """

    x: Float[Tensor, "layer sample source"]
    y: Float[Tensor, "layer sample target"]
    factor: float = 1.0

    @property
    def nbytes(self) -> int:
        """The bytes of the samples."""
        return self.x.nbytes + self.y.nbytes

    @cached_property
    def square_x(self) -> Float[Tensor, "layer source"]:
        """Sums of squares over the source's samples."""
        return self.factor * _sums_of_squares(self.x)

    @cached_property
    def square_y(self) -> Float[Tensor, "layer target"]:
        """Sums of squares over the target's samples."""
        return self.factor * _sums_of_squares(self.y)

    def energy(self) -> float:
        """Return the geometric mean of the total sums of squares of both sides."""
        return float((self.square_x.sum() * self.square_y.sum()).sqrt())

    def scaled(self, factor: float) -> "StackedSamples":
        """Return samples whose second moments are multiplied by `factor`."""
        return replace(self, factor=self.factor * factor)

    def thinned(self, every: int) -> "StackedSamples":
        """Return the samples of the first of every few units of each layer of the source."""
        return replace(self, x=self.x[..., ::every])

    def products(self, source: slice, target: int) -> Float[Tensor, "layer source target"]:
        """Return the sums of products of the units of some source layers with those of one target layer."""
        x, y = (_precise(values) for values in (self.x[source], self.y[target]))
        return (x.transpose(1, 2) @ y).double() * self.factor


def stacked_samples(x: Tensor, y: Tensor, dims: Sequence[int], units: Sequence[int]) -> StackedSamples:
    """Return the samples of two tensors with one axis per space.

    Args:
        dims: axes of the units, those of the stack first; every other axis is one of samples.
        units: the numbers of units along these axes.
    """

    def by_layer(values: Tensor) -> Float[Tensor, "layer sample unit"]:
        last = values.movedim(list(dims), [0, *range(1 - len(dims), 0)])
        return last.reshape(units[0], -1, prod(units[1:]))

    return StackedSamples(by_layer(x), by_layer(y))


def large_stacks(spec: Spec) -> set[Space]:
    """Return the outermost spaces whose enclosed units are so many that they are compared for two layers at a time.

    The units must be permuted. Those of rotated spaces have no partners one by one.
    """
    stacks: dict[Space, bool] = {}
    sizes: dict[Space, int] = {}
    for shown in _shown_by_tensor(spec):
        for root, spaces in shown.items():
            stacks[root] = stacks.get(root, True) and _is_stack(spaces)
            sizes[root] = max(sizes.get(root, 0), prod(space.units for space in spaces))
    return {root for root, is_stack in stacks.items() if is_stack and sizes[root] > MAX_UNITS}


def stack_entries(spec: Spec) -> dict[str, int]:
    """Return the number of weights of each large stack, by its name."""
    entries = dict.fromkeys(large_stacks(spec), 0)
    for axes, shown in zip(spec.tensors().values(), _shown_by_tensor(spec), strict=True):
        for root in entries.keys() & shown.keys():
            entries[root] += prod(axis.size for axis in axes)
    return {root.name: count for root, count in entries.items()}


def _shown_by_tensor(spec: Spec) -> Iterator[dict[Space, list[Space]]]:
    """Yield the spaces of each tensor that have an outermost space in common, if there are several, by that space."""
    for axes in spec.tensors().values():
        shown: dict[Space, list[Space]] = {}
        for axis in axes:
            for space, _ in leaves(axis):
                shown.setdefault(space.root, []).append(space)
        yield {root: spaces for root, spaces in shown.items() if len(spaces) > 1}


def _is_stack(spaces: Sequence[Space]) -> bool:
    """Return whether the spaces of a tensor are a stack of layers, their units, and at most a scale of each unit."""
    is_nested = [space.within for space in spaces] == [None, *spaces[:-1]]
    is_permuted = spaces[0].group is Group.PERMUTATION and spaces[1].group.permutes
    return is_nested and is_permuted and all(space.units == 1 for space in spaces[2:])


def _sums_of_squares(samples: Float[Tensor, "layer sample unit"]) -> Float[Tensor, "layer unit"]:
    return torch.stack([layer.double().square().sum(0) for layer in samples])


def _precise(samples: Tensor) -> Tensor:
    return samples.float() if samples.dtype in HALF_PRECISION else samples
