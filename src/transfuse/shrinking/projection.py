"""The large model as the small model sees it: the blocks that stay, in the small model's spaces."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.activations.execution_order import Step, execution_steps
from transfuse.activations.hook_points import HookPoint
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.activations.token_importance import PositionWeights, token_importance
from transfuse.alignment.transform import transform_tensor
from transfuse.base.batch import Batch
from transfuse.network.axes import axis_terms
from transfuse.network.operations import Embedding, Linear, Norm
from transfuse.network.precision import compute_dtype
from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import Spec
from transfuse.shrinking.blocks import BlockEnd, Blocks
from transfuse.transport.maps import Map

Summands = list[tuple[float, HookPoint]]
"""Points of the large model, each with its factor."""


@dataclass(frozen=True, eq=False)
class Projection:
    """The large model as the small model sees it.

    Attributes:
        large: the large model.
        blocks: the blocks that stay.
        ends: how each block of the large model ends.
        cut: the symmetric declaration of a model of the large widths with the blocks that stay.
        small: the symmetric declaration of the small model, with the same names.
        maps: the map of every space whose size differs, by name.
    """

    large: PreTrainedModel
    blocks: Blocks
    ends: Sequence[BlockEnd | None]
    cut: Spec
    small: Spec
    maps: Mapping[str, Map]

    @cached_property
    def axes(self) -> dict[tuple[str, str], tuple[Axis, Axis]]:
        """Return the axis in the large and in the small model, by the name and the side of a module."""
        pairs = zip(_axes(self.cut).items(), _axes(self.small).values(), strict=True)
        return {key: (large, small) for (key, large), small in pairs}

    def project(self, values: Float[Tensor, "*rows large"], name: str, side: str) -> Float[Tensor, "*rows small"]:
        """Return activations of the large model in the units of the small one.

        Args:
            name: the name of the module in the small model.
            side: `input` or `output`.
        """
        large, small = self.axes[name, side]
        if not any(space.name in self.maps for space in large.spaces()):
            return values
        rows = values.reshape(-1, values.shape[-1])
        result = rows.new_empty(len(rows), small.size)
        row = Space("row", len(rows), Group.FIXED)
        for (entries, term), (small_entries, _) in zip(axis_terms(large), axis_terms(small), strict=True):
            result[:, small_entries] = transform_tensor(rows[:, entries], (row, term), self.maps)
        return result.reshape(*values.shape[:-1], small.size)

    def large_name(self, name: str) -> str:
        """Return the large model's module that a module of the small model stands for.

        A norm behind a block stands for the one behind the removed blocks too.
        """
        number = self.blocks.number(name)
        if number is not None:
            end = self.ends[self.blocks.end(number)]
            at_end = self.blocks.large_name(name, at_end=True)
            if end is not None and at_end in end.norms:
                return at_end
        return self.blocks.large_name(name)

    def summands(self, point: HookPoint) -> Summands:
        """Return the points of the large model whose weighted sum a point of the small model stands for.

        The last linear map of a block stands for all that the removed blocks behind it add to the stream.
        """
        number = self.blocks.number(point.name)
        name = self.blocks.large_name(point.name)
        if point.side == "output" and number is not None:
            start, end = (self.ends[place(number)] for place in (self.blocks.start, self.blocks.end))
            if start and end and start is not end and start.writer.name == name:
                behind = [(1.0, other) for other in end.stream]
                behind.append((end.factor, HookPoint(end.writer.name, "output", point.axis)))
                before = [(-1.0, other) for other in start.stream]
                return [(factor / start.factor, other) for factor, other in [*behind, *before]]
        return [(1.0, replace(point, name=self.large_name(point.name)))]

    def observed(self, activations: Mapping[HookPoint, Tensor], points: Sequence[HookPoint]) -> dict[HookPoint, Tensor]:
        """Return what points of the small model stand for, given the large model's activations."""
        result = {}
        for point in points:
            total = sum(factor * activations[other] for factor, other in self.summands(point))
            assert isinstance(total, Tensor)
            result[point] = self.project(total.to(compute_dtype(total.dtype)), point.name, point.side)
        return result

    def cache(self, batches: Sequence[Batch], steps: Sequence[Step], room: int, mixed: bool) -> PrefixCache:
        """Return the large model's activations, cached, in the shape of the small model."""
        return ProjectedCache(self, batches, steps, room, mixed)

    def importance(self, linears: Sequence[Linear], batches: Sequence[Batch]) -> dict[str, PositionWeights]:
        """Return the importance of each token position in the large model, by the names of the small one."""
        names = {linear.name: self.blocks.large_name(linear.name) for linear in linears}
        large = [replace(linear, name=names[linear.name]) for linear in linears]
        found = token_importance([self.large], large, batches)
        return {name: found[other] for name, other in names.items() if other in found}


def _axes(spec: Spec) -> dict[tuple[str, str], Axis]:
    """Return what modules read and write, by their name and side."""
    axes: dict[tuple[str, str], Axis] = {}
    for op in spec.ops:
        if isinstance(op, Linear):
            axes[op.name, "output"] = op.writes
            if len(op.reads) == 1:
                axes[op.name, "input"] = op.reads[0]
        elif isinstance(op, Norm):
            axes[op.name, "input"] = axes[op.name, "output"] = op.space
        elif isinstance(op, Embedding):
            axes[op.name, "output"] = op.writes
    return axes


class ProjectedCache(PrefixCache):
    """The activations of the large model in the shape of the small one."""

    def __init__(
        self, projection: Projection, batches: Sequence[Batch], steps: Sequence[Step], room: int, mixed: bool
    ) -> None:
        """
        Args:
            steps: the steps of the small model in execution order.
            room: bytes that watched activations may take.
            mixed: whether the large model runs in mixed precision.
        """
        costly = [projection.blocks.large_name(step.name) for step in steps if step.is_costly]
        large_steps = execution_steps(projection.large, batches[0], costly) if steps else []
        kinds = {step.is_block for step in steps}
        large_steps = [step for step in large_steps if step.is_block in kinds]
        super().__init__(projection.large, batches, large_steps, room, mixed)
        self.projection = projection
        places = {step.name: index for index, step in enumerate(large_steps)}
        names = [projection.blocks.large_name(step.name, at_end=step.is_block) for step in steps]
        self.lengths = [0, *(places[name] + 1 for name in names)]  # of the large model, by that of the small one

    def advance(self, length: int) -> None:
        super().advance(self.lengths[length])

    def watch(self, once: Iterable[HookPoint], repeatedly: Iterable[HookPoint], length: int) -> None:
        super().watch(self._large_points(once), self._large_points(repeatedly), self.lengths[length])

    @torch.no_grad()
    def observe(self, points: Sequence[HookPoint], batch: Batch) -> dict[HookPoint, Tensor]:
        activations = super().observe(self._large_points(points), batch)
        return self.projection.observed(activations, points)

    def _large_points(self, points: Iterable[HookPoint]) -> list[HookPoint]:
        large = [other for point in points for _, other in self.projection.summands(point)]
        return list(dict.fromkeys(large))
