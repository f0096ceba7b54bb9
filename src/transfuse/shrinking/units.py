"""The choice of hidden units and heads: those from which the layer that reads them can best write what it writes.

The layer is fitted to the chosen units, so that they also do, as far as they can, what the others did.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.base.budget import FLOAT64_BYTES, cache_bytes
from transfuse.base.grouping import groups_within
from transfuse.base.progress import Progress
from transfuse.errors import SpecError
from transfuse.merging.fitting.gram import GramMatrix, accumulate, bias_index, gram_matrix
from transfuse.merging.fitting.kept_units import chosen_units, reader_of_units
from transfuse.merging.fitting.layer_groups import entries_by_unit, root_space
from transfuse.network.axes import leaves
from transfuse.network.operations import Linear
from transfuse.network.space import Axis, Space
from transfuse.network.spec import Spec
from transfuse.shrinking.maps import Selection, nested_selection
from transfuse.shrinking.observe import Observation
from transfuse.shrinking.projection import Projection
from transfuse.transport.maps import Map


@dataclass(frozen=True)
class UnitChoice:
    """A choice of units to be made.

    Attributes:
        root: the outermost space of the units: hidden units, heads or groups of heads.
        nested: the query heads within each group, if their number changes; None: it does not.
        linear: the only map that reads the units; if there is none, the first that writes them.
        side: the side of that map where the units are observed.
    """

    root: Space
    nested: Space | None
    linear: Linear
    side: str

    @property
    def axis(self) -> Axis:
        """The axis with the units."""
        return self.linear.reads[0] if self.side == "input" else self.linear.writes


Fitted = dict[str, Float[Tensor, "inputs writes"]]
"""The fitted maps, with the bias as the last row, by the name of the linear map."""


def choices(cut: Spec, changed: Mapping[str, int]) -> list[UnitChoice]:
    """Return the choices to be made, in the order of the forward pass.

    Args:
        cut: the symmetric declaration of a model of the large widths.
        changed: the units of every space in the small model whose size differs, by name, without streams.

    Raises:
        SpecError: units of such a space cannot be chosen.
    """
    spaces = cut.all_spaces()
    result = []
    for root in dict.fromkeys(spaces[name].root for name in changed):
        nested = [spaces[name] for name in changed if spaces[name].root == root and spaces[name] != root]
        if len(nested) > 1 or any(space.within != root for space in nested):
            raise SpecError(f"{cut.family}: units within {root.name} cannot be chosen; leave their number as it is")
        result.append(_choice(cut, root, nested[0] if nested else None))
    return result


def _choice(cut: Spec, root: Space, nested: Space | None) -> UnitChoice:
    linears = cut.linears()
    readers = [op for op in linears if len(op.reads) == 1 and root_space(op.reads[0]) == root]
    writers = [op for op in linears if root in op.writes.spaces()]
    if any(op.stacked == root for op in linears):
        raise SpecError(f"{cut.family}: the hidden units of experts cannot be chosen; leave their number as it is")
    if not writers:
        raise SpecError(f"{cut.family}: the units of {root.name} cannot be chosen; leave hidden_size as it is")
    if len(readers) == 1 and readers[0].norm is None and readers[0].observable:
        return UnitChoice(root, nested, readers[0], "input")
    return UnitChoice(root, nested, writers[0], "output")


def choose_units(
    todo: Sequence[UnitChoice],
    sizes: Mapping[str, int],
    train: Observation,
    validation: Observation,
    progress: Progress,
) -> tuple[dict[str, Map], Fitted]:
    """Return the map of every space with chosen units, and the layers that read them, fitted to the chosen ones.

    Args:
        sizes: the units of every space in the small model, by name.
        train, validation: samples, with a projection whose streams have their maps already.
    """
    maps: dict[str, Map] = {}
    fitted: Fitted = {}
    groups = groups_within(todo, _moment_bytes, cache_bytes("block outputs"))
    for group in progress.track(list(groups), "choosing units"):
        pairs = zip(_moments(group, train), _moments(group, validation), strict=True)
        for choice, (moments, held_out) in zip(group, pairs, strict=True):
            own = _maps(choice, sizes, moments)
            maps |= own
            if choice.side == "input":
                columns = _columns(choice, replace(train.projection, maps=own))
                fitted[choice.linear.name] = _fit(choice, columns, moments, held_out)
    return maps, fitted


def _moment_bytes(choice: UnitChoice) -> int:
    return FLOAT64_BYTES * choice.axis.size**2


@torch.no_grad()
def _moments(group: Sequence[UnitChoice], observation: Observation) -> list[GramMatrix]:
    """Return the moments of the units and of what is explained by them, in the small model's streams."""
    points = [HookPoint(choice.linear.name, choice.side, choice.axis) for choice in group]  # type: ignore[arg-type]
    totals: list[GramMatrix | None] = [None] * len(group)
    for batch_rows in observation.rows(points, [[choice.linear.name] for choice in group]):
        for index, (choice, (rows, weights)) in enumerate(zip(group, batch_rows, strict=True)):
            target = _target(choice, rows, observation.projection)
            totals[index] = accumulate(totals[index], gram_matrix(rows, [target], weights))
    return [total for total in totals if total is not None]


def _target(choice: UnitChoice, rows: Float[Tensor, "row unit"], projection: Projection) -> Float[Tensor, "row writes"]:
    """Return what the reader writes, in the small model's spaces; units that nothing reads explain themselves."""
    if choice.side == "output":
        return rows
    module = projection.large.get_submodule(projection.large_name(choice.linear.name))
    weight = module.get_parameter(choice.linear.weight)
    written = rows @ (weight if choice.linear.transposed else weight.T)
    if choice.linear.bias:
        written = written + module.get_parameter(choice.linear.bias)
    return projection.project(written, choice.linear.name, "output")


def _maps(choice: UnitChoice, sizes: Mapping[str, int], moments: GramMatrix) -> dict[str, Map]:
    """Return the maps of the units, and of those nested in them if their number changes."""
    root = choice.root
    units = entries_by_unit(root, choice.axis)
    assert units is not None
    count = sizes.get(root.name, root.units)
    index = torch.arange(root.units)
    maps: dict[str, Map] = {}
    if count < root.units:
        index = chosen_units(moments, units, count, with_bias=choice.linear.bias is not None)
        maps[root.name] = Selection(index)
    if choice.nested is not None:
        nested = [_chosen_within(choice, units[unit], sizes, moments) for unit in index.tolist()]
        maps[choice.nested.name] = nested_selection(torch.stack(nested), choice.nested.units)
    return maps


def _chosen_within(
    choice: UnitChoice, entries: Int[Tensor, " entry"], sizes: Mapping[str, int], moments: GramMatrix
) -> Int[Tensor, " chosen"]:
    """Return the units within one outer unit that explain best what the layer writes."""
    assert choice.nested is not None
    spaces = [space for space, _ in leaves(choice.axis)]
    inner = prod(space.units for space in spaces[spaces.index(choice.nested) + 1 :])
    local = torch.arange(len(entries)).reshape(choice.nested.units, inner)
    own = moments.select_inputs(torch.cat([entries, torch.tensor([choice.axis.size])]))
    return chosen_units(own, local, sizes[choice.nested.name], with_bias=choice.linear.bias is not None)


def _columns(choice: UnitChoice, projection: Projection) -> Int[Tensor, " chosen"]:
    """Return the entries of the axis that stay, in the small model's order."""
    entries = torch.arange(choice.axis.size, dtype=torch.float64).unsqueeze(0)
    return projection.project(entries, choice.linear.name, choice.side).squeeze(0).long()


def _fit(
    choice: UnitChoice, columns: Int[Tensor, " chosen"], moments: GramMatrix, held_out: GramMatrix
) -> Float[Tensor, "inputs writes"]:
    """Return the layer that best writes what it wrote from the chosen units."""
    bias = bias_index(choice.linear.bias is not None, choice.axis.size)
    return reader_of_units(moments, held_out, torch.cat([columns, bias]))
