"""Spherical interpolation of two models in one basis, tensor by tensor (Shoemake, 1985)."""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor

from transfuse.base.lazy import Lazy, Tensors

PARALLEL = 0.9995  # cosine from which the arc is the line, up to rounding


def slerp(
    start: Tensors, end: Tensors, weights: Callable[[str], Sequence[float]], separate: Collection[str] = ()
) -> Lazy:
    """Return every tensor on the arc between two models.

    Args:
        weights: of the two models for the name of a tensor. They sum to one.
        separate: the names of tensors whose experts have an arc each.
    """

    def arc_tensor(name: str) -> Tensor:
        turn = partial(interpolate_on_arc, share=weights(name)[1])
        if name not in separate:
            return turn(start[name], end[name])
        return torch.stack([turn(*experts) for experts in zip(start[name], end[name], strict=True)])

    return Lazy({name: partial(arc_tensor, name) for name in start})


def interpolate_on_arc(start: Tensor, end: Tensor, share: float) -> Tensor:
    """Return the tensor at `share`, from 0 to 1, of the angle from `start` to `end`.

    Tensors that are zero, or parallel or opposite, have no arc. They are interpolated on the line.
    """
    norms = torch.linalg.vector_norm(start.double()) * torch.linalg.vector_norm(end.double())
    cosine = (start.double() * end.double()).sum() / norms
    if not float(norms) or abs(float(cosine)) > PARALLEL:
        return (1 - share) * start + share * end
    angle = cosine.acos()
    return float(((1 - share) * angle).sin() / angle.sin()) * start + float((share * angle).sin() / angle.sin()) * end
