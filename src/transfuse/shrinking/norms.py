"""Norms over a choice of the stream's units: their mean and spread differ, which gain and bias make up for."""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.network.operations import Norm
from transfuse.network.space import Space
from transfuse.shrinking.maps import Reconstruction
from transfuse.shrinking.observe import Observation
from transfuse.shrinking.stream import normalize


@torch.no_grad()
def fitted_norms(observation: Observation) -> dict[str, Tensor]:
    """Return gain and bias of every norm over chosen units, by least squares unit by unit, by the names of tensors."""
    projection = observation.projection
    norms = [
        norm
        for norm in projection.cut.norms()
        if norm.has_gain
        and isinstance(norm.space, Space)
        and isinstance(projection.maps.get(norm.space.name), Reconstruction)
    ]
    sums: dict[str, Float[Tensor, "5 unit"]] = {}
    for norm in norms:  # one at a time, so that input and output of one module are compared
        points = [HookPoint(norm.name, side, norm.space) for side in ("input", "output")]
        for (inputs, weights), (outputs, _) in observation.rows(points, [[], []]):
            small = projection.project(inputs, norm.name, "input")
            x, y = normalize(small, norm).double(), projection.project(outputs, norm.name, "output").double()
            new = torch.stack([torch.ones_like(x), x, y, x * x, x * y])
            sums[norm.name] = sums.get(norm.name, 0) + (new * weights.double().unsqueeze(1)).sum(1)
    return {name: values for norm in norms for name, values in _solution(norm, sums[norm.name]).items()}


def _solution(norm: Norm, sums: Float[Tensor, "5 unit"]) -> dict[str, Tensor]:
    count, x, y, xx, xy = sums
    if not norm.bias:
        return {norm.gain: xy / xx.clamp_min(1e-12)}
    variance = (xx / count - (x / count).square()).clamp_min(1e-12)
    gain = (xy / count - x * y / count**2) / variance
    return {norm.gain: gain, f"{norm.name}.{norm.bias}": (y - gain * x) / count}
