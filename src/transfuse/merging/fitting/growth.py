"""Growth: a fused model with more hidden units and heads than each parent.

In one basis, the hidden units and the heads of all parents can stand side by side in one wider model. What a branch
writes is then the weighted sum of what the parents' branches write. Layers are fitted in this wider model. Where the
result has less room, the units that are worth least to the layer that reads them become zero (`LayerwiseFit`), and are
cut off afterward.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.lazy import Tensors
from transfuse.network.axes import Mode, leaves
from transfuse.network.changed_spaces import changed_sizes
from transfuse.network.layout import unfused
from transfuse.network.model import declaration, unfused_tensors, with_tensors
from transfuse.network.operations import Axes

Kept = dict[str, Int[Tensor, " kept"]]
"""The units of the wide model that stay, by the name of the space."""


@dataclass(frozen=True)
class GrownTensor:
    """A tensor along one of whose dimensions units are added.

    Attributes:
        name: its unfused name.
        shape: its shape with one dimension per space.
        dimension: the dimension that grows.
        space: the name of the space along this dimension.
        reads: whether the tensor reads the units.
    """

    name: str
    shape: list[int]
    dimension: int
    space: str
    reads: bool


@dataclass(frozen=True, eq=False)
class Growth:
    """The shapes between which a fused model grows. The weights of these models do not matter.

    Attributes:
        narrow: a model of the parents' shape.
        wide: a model with room for the units of all parents.
        grown: a model of the size of the result.
    """

    narrow: PreTrainedModel
    wide: PreTrainedModel
    grown: PreTrainedModel

    @cached_property
    def counts(self) -> dict[str, int]:
        """Return the units of each space that grows in the result, by name."""
        return changed_sizes(declaration(self.narrow), declaration(self.grown))

    @property
    def cuts(self) -> bool:
        """Whether the result has less room than all units need."""
        return self.counts != changed_sizes(declaration(self.narrow), declaration(self.wide))

    def widen(self, parents: Sequence[Tensors]) -> list[Tensors]:
        """Return the tensors of each parent with the units of all.

        Nothing reads the units of the others, so that the parent's function stays.
        """
        shapes = _shapes(self.wide)
        widened = [dict(tensors) for tensors in parents]
        for tensor in self._grown_tensors(self.narrow):
            parts = [tensors[tensor.name].reshape(tensor.shape) for tensors in parents]
            for own, tensors in enumerate(widened):
                seen = [
                    torch.zeros_like(part) if tensor.reads and index != own else part
                    for index, part in enumerate(parts)
                ]
                tensors[tensor.name] = torch.cat(seen, tensor.dimension).reshape(shapes[tensor.name])
        return list(widened)

    def used_units(self, fitted: PreTrainedModel) -> Kept:
        """Return the units of a fitted wide model that are not zero."""
        tensors = unfused_tensors(fitted)
        largest: dict[str, Tensor] = {}
        for tensor in self._grown_tensors(fitted):
            if not tensor.reads:
                units = tensors[tensor.name].reshape(tensor.shape).movedim(tensor.dimension, 0)
                values = units.reshape(len(units), -1).abs().amax(1)
                largest[tensor.space] = torch.maximum(largest.get(tensor.space, values), values)
        return {name: _first_used(values, self.counts[name]) for name, values in largest.items()}

    def start_units(self, parent: int, used: Kept) -> Kept:
        """Return all units of a parent, and as many of the others that are used as there is room for."""
        narrow = {tensor.space: tensor.shape[tensor.dimension] for tensor in self._grown_tensors(self.narrow)}
        result = {}
        for name, units in used.items():
            own = torch.arange(narrow[name]) + parent * narrow[name]
            others = units[~torch.isin(units, own)]
            result[name] = torch.cat([own, others])[: len(units)].sort().values
        return result

    def cut(self, wide: PreTrainedModel, kept: Kept) -> PreTrainedModel:
        """Return a wide model with only these units."""
        shapes = _shapes(self.grown)
        tensors = dict(unfused_tensors(wide))
        for tensor in self._grown_tensors(wide):
            values = tensors[tensor.name].reshape(tensor.shape)
            index = kept[tensor.space].to(values.device)
            tensors[tensor.name] = values.index_select(tensor.dimension, index).reshape(shapes[tensor.name])
        return with_tensors(self.grown, tensors)

    def _grown_tensors(self, model: PreTrainedModel) -> Iterator[GrownTensor]:
        """Yield the tensors of a model with a dimension that grows."""
        for name, axes in _axes(model).items():
            flat = [leaf for axis in axes for leaf in leaves(axis)]
            shape = [space.units for space, _ in flat]
            for dimension, (space, mode) in enumerate(flat):
                if space.name in self.counts:
                    yield GrownTensor(name, shape, dimension, space.name, mode is Mode.READS)


def _axes(model: PreTrainedModel) -> dict[str, Axes]:
    return unfused(declaration(model)).tensors()


def _shapes(model: PreTrainedModel) -> dict[str, list[int]]:
    return {name: [axis.size for axis in axes] for name, axes in _axes(model).items()}


def _first_used(values: Tensor, count: int) -> Int[Tensor, " kept"]:
    """Return `count` units in order: those that are not zero, and the first of the others if there are too few."""
    order = torch.argsort((values == 0).int(), stable=True)
    return order[:count].sort().values.cpu()
