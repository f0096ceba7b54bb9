"""Carry weights into another basis: the only code that does."""

from collections.abc import Mapping
from functools import partial
from math import prod

from torch import Tensor

from transfuse.base.lazy import Lazy
from transfuse.network.space import Mode, Space, leaves
from transfuse.network.spec import Axes, Spec
from transfuse.transport.maps import Map

Maps = Mapping[str, Map]


def transform_all(spec: Spec, tensors: Mapping[str, Tensor], maps: Maps) -> Lazy:
    """Every tensor of a source network in the target's basis.

    Args:
        spec: the source's declaration, opened; `tensors` have its shapes.
        maps: one map per space name; a space without one stays as it is.
    """

    def carried(name: str, axes: Axes) -> Tensor:
        return transform_tensor_dict(tensors[name], axes, maps)

    return Lazy({name: partial(carried, name, axes) for name, axes in spec.tensors().items()})


def transform_tensor_dict(tensor: Tensor, axes: Axes, maps: Maps) -> Tensor:
    """One tensor: push along axes that write, pull along axes that read, scale along diagonals.

    A space that lies within others comes after them, as its map is indexed by their units in the target's order.
    """
    found = [leaves(axis) for axis in axes]
    flat = [leaf for each in found for leaf in each]
    places = {space.name: place for place, (space, _) in enumerate(flat)}
    tensor = tensor.reshape([space.units for space, _ in flat])
    for place in sorted(range(len(flat)), key=lambda place: len(flat[place][0].ancestors())):
        space, mode = flat[place]
        if space.name in maps:
            tensor = _carry_one(tensor, place, space, mode, maps[space.name], places)
    sizes, start = [], 0
    for each in found:
        sizes.append(prod(tensor.shape[start : start + len(each)]))
        start += len(each)
    return tensor.reshape(sizes)


def _carry_one(tensor: Tensor, place: int, space: Space, mode: Mode, chosen: Map, places: Mapping[str, int]) -> Tensor:
    """`places`: at which dimension each enclosing space lies."""
    outer = [places[parent.name] for parent in space.ancestors()[: chosen.within]]
    front = list(range(len(outer)))
    moved = tensor.movedim([*outer, place], [*front, -1])
    middle = moved.shape[len(outer) : -1]
    rows = moved.flatten(len(outer), -2) if middle else moved.unsqueeze(-2)
    moves = {
        Mode.WRITES: chosen.push,
        Mode.READS: chosen.pull,
        Mode.SCALES: chosen.scale,
        Mode.SCALES_BACK: chosen.scale_back,
    }
    result = moves[mode](rows)
    result = result.unflatten(-2, middle) if middle else result.squeeze(-2)
    return result.movedim([*front, -1], [*outer, place])
