"""One model from many in one basis: the weighted mean of every tensor."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from transfuse.base.lazy import Lazy, Tensors


def mean(models: Sequence[Tensors], weights: Sequence[float]) -> Lazy:
    """`sum_m weights[m] * models[m]`, tensor by tensor; the caller normalises the weights."""

    def of(name: str) -> Tensor:
        total = weights[0] * models[0][name]
        for weight, model in zip(weights[1:], models[1:], strict=True):
            total += weight * model[name]
        return total

    return Lazy({name: partial(of, name) for name in models[0]})


def interpolate(start: Tensors, end: Tensors, position: float) -> Lazy:
    """The point `position` in [0, 1] of the straight line between two models in one basis."""
    return mean([start, end], [1 - position, position])
