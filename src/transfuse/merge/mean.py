"""One model from many in one basis: the weighted mean of every tensor."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def mean(models: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """`sum_m weights[m] * models[m]`, tensor by tensor; the caller normalises the weights."""
    return {
        name: torch.stack([weight * model[name] for weight, model in zip(weights, models, strict=True)]).sum(0)
        for name in models[0]
    }


def interpolate(start: Mapping[str, Tensor], end: Mapping[str, Tensor], position: float) -> dict[str, Tensor]:
    """The point `position` in [0, 1] of the straight line between two models in one basis."""
    return mean([start, end], [1 - position, position])
