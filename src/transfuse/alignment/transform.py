"""Carry the tensors of a network into another basis."""

from collections.abc import Mapping
from functools import partial
from math import prod

from torch import Tensor

from transfuse.base.lazy import Lazy
from transfuse.network.axes import Mode, leaves
from transfuse.network.operations import Axes
from transfuse.network.space import Space
from transfuse.network.spec import Spec
from transfuse.transport.maps import Map

Maps = Mapping[str, Map]


def transform_all(spec: Spec, tensors: Mapping[str, Tensor], maps: Maps) -> Lazy:
    """Return every tensor of a source in the target's basis. A tensor is computed when it is read.

    Args:
        spec: the source's unfused declaration.
        tensors: the source's tensors.
        maps: one map per space, by name. A space without a map stays as it is.
    """

    def transformed(name: str, axes: Axes) -> Tensor:
        return transform_tensor(tensors[name], axes, maps)

    return Lazy({name: partial(transformed, name, axes) for name, axes in spec.tensors().items()})


def transform_tensor(tensor: Tensor, axes: Axes, maps: Maps) -> Tensor:
    """Return one tensor in the target's basis: push along axes that write, pull along axes that read, scale diagonals.

    A space is mapped after the spaces that enclose it, because its map is indexed by their units in the target's order.
    The result is contiguous, as models store it.
    """
    leaves_by_axis = [leaves(axis) for axis in axes]
    flat = [leaf for axis_leaves in leaves_by_axis for leaf in axis_leaves]
    dims = {space.name: dim for dim, (space, _) in enumerate(flat)}
    tensor = tensor.reshape([space.units for space, _ in flat])
    for dim in sorted(range(len(flat)), key=lambda dim: len(flat[dim][0].ancestors())):
        space, mode = flat[dim]
        if space.name in maps:
            tensor = _transform_dim(tensor, dim, space, mode, maps[space.name], dims)
    sizes, start = [], 0
    for axis_leaves in leaves_by_axis:
        sizes.append(prod(tensor.shape[start : start + len(axis_leaves)]))
        start += len(axis_leaves)
    return tensor.reshape(sizes).contiguous()


def _transform_dim(tensor: Tensor, dim: int, space: Space, mode: Mode, map_: Map, dims: Mapping[str, int]) -> Tensor:
    """Map one dimension of a tensor. `dims` gives the dimension of each enclosing space."""
    outer = [dims[parent.name] for parent in space.ancestors()[: map_.parent_axes]]
    front = list(range(len(outer)))
    moved = tensor.movedim([*outer, dim], [*front, -1])
    middle = moved.shape[len(outer) : -1]
    rows = moved.flatten(len(outer), -2) if middle else moved.unsqueeze(-2)
    methods = {
        Mode.WRITES: map_.push,
        Mode.READS: map_.pull,
        Mode.SCALES: map_.scale,
        Mode.SCALES_BACK: map_.scale_back,
    }
    mapped = methods[mode](rows)
    mapped = mapped.unflatten(-2, middle) if middle else mapped.squeeze(-2)
    return mapped.movedim([*front, -1], [*outer, dim])
