"""Carry weights into another basis: the only code that does."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from transfuse.network.space import Axis, Concat, Dual, Product, Space
from transfuse.network.spec import Axes, Spec
from transfuse.transport.maps import Map

Maps = Mapping[str, Map]
Move = Callable[[Map, Tensor], Tensor]


def _push(chosen: Map, values: Tensor) -> Tensor:
    return chosen.push(values)


def _pull(chosen: Map, values: Tensor) -> Tensor:
    return chosen.pull(values)


def carry_all(spec: Spec, tensors: Mapping[str, Tensor], maps: Maps) -> dict[str, Tensor]:
    """Every tensor of a source network in the target's basis.

    Args:
        spec: the source's declaration; `tensors` have its shapes.
        maps: one map per space name; a space without one stays as it is.
    """
    return {name: carry(tensors[name], axes, maps) for name, axes in spec.tensors().items()}


def carry(tensor: Tensor, axes: Axes, maps: Maps) -> Tensor:
    """One tensor: push along axes that write, pull along axes that read."""
    for position, axis in enumerate(axes):
        tensor = _carry_axis(tensor, position, axis, maps, _push, {})
    return tensor


def _carry_axis(tensor: Tensor, position: int, axis: Axis, maps: Maps, move: Move, parents: dict[str, int]) -> Tensor:
    """`parents`: at which axis of the tensor each enclosing space lies, already in the target's order."""
    match axis:
        case Space():
            return _carry_space(tensor, position, axis, maps, move, parents)
        case Dual():
            other = _pull if move is _push else _push
            return _carry_axis(tensor, position, axis.axis, maps, other, parents)
        case Product():
            tensor = tensor.unflatten(position, [factor.size for factor in axis.factors])
            inside = dict(parents)
            for offset, factor in enumerate(axis.factors):
                tensor = _carry_axis(tensor, position + offset, factor, maps, move, inside)
                if isinstance(factor, Space):  # what lies within it is indexed by its units
                    inside[factor.name] = position + offset
            return tensor.flatten(position, position + len(axis.factors) - 1)
        case Concat():
            pieces = tensor.split([part.size for part in axis.parts], position)
            parts = zip(pieces, axis.parts, strict=True)
            return torch.cat(
                [_carry_axis(piece, position, part, maps, move, parents) for piece, part in parts], position
            )
    raise TypeError(f"unknown axis {axis!r}")


def _carry_space(
    tensor: Tensor, position: int, space: Space, maps: Maps, move: Move, parents: dict[str, int]
) -> Tensor:
    chosen = maps.get(space.name)
    if chosen is None:
        return tensor
    axes = [parents[parent.name] for parent in space.ancestors()[: chosen.within]]
    front = list(range(len(axes)))
    moved = tensor.movedim([*axes, position], [*front, -1])
    middle = moved.shape[len(axes) : -1]
    result = move(chosen, moved.flatten(len(axes), -2) if middle else moved.unsqueeze(-2))
    result = result.unflatten(-2, middle) if middle else result.squeeze(-2)
    return result.movedim([*front, -1], [*axes, position])
