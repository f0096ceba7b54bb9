"""The weighted mean of several models in one basis, tensor by tensor."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from transfuse.base.lazy import Lazy, Tensors


def mean(models: Sequence[Tensors], weights: Sequence[float] | Callable[[str], Sequence[float]]) -> Lazy:
    """Return `sum_m weights[m] * models[m]` for every tensor. The caller normalizes the weights.

    Args:
        weights: one per model, or a function that returns these for the name of a tensor.
    """

    def mean_tensor(name: str) -> Tensor:
        shares = weights(name) if callable(weights) else weights
        total = shares[0] * models[0][name]
        for weight, model in zip(shares[1:], models[1:], strict=True):
            total += weight * model[name]
        return total

    return Lazy({name: partial(mean_tensor, name) for name in models[0]})


def interpolate(start: Tensors, end: Tensors, position: float) -> Lazy:
    """Return the point at `position`, from 0 to 1, on the straight line between two models in one basis."""
    return mean([start, end], [1 - position, position])
