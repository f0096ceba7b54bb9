"""Norms over a choice of units: their mean and spread differ, which gain and bias make up for."""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.network.axes import Mode, axis_terms, leaves
from transfuse.network.operations import Norm, Parameter
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


@torch.no_grad()
def head_gain_factors(observation: Observation) -> dict[str, float]:
    """Return by what to multiply the gains of norms of queries and keys if rotary heads keep some frequencies only.

    These norms divide by the root mean square of the channels of a head. The factor is the mean ratio of that of the
    channels that stay and that of all channels.
    """
    projection = observation.projection
    gains = [
        (op.name, space.name.removesuffix("frequency"), leaves(op.axes[-1])[-1][1])
        for op in projection.cut.ops
        if isinstance(op, Parameter)
        for space in op.spaces()
        if space.name in projection.maps and space.name.endswith(".frequency")
    ]
    return {name: _mean_ratio(observation, f"{prefix}pair", mode) for name, prefix, mode in gains}


def _mean_ratio(observation: Observation, pairs: str, mode: Mode) -> float:
    """Return the mean ratio of the root mean squares of the channels that stay and of all channels.

    Args:
        pairs: the space of the planes of these channels.
        mode: that of the planes in the linear map: queries write them, and keys read them.
    """
    projection = observation.projection
    kept = projection.maps[pairs].scale_back(torch.eye(projection.maps[pairs].units[0])).any(1).repeat(2)
    linears = [
        op
        for op in projection.cut.linears()
        for _, term in axis_terms(op.writes)
        if any(space.name == pairs and own == mode for space, own in leaves(term))
    ]
    total = count = 0.0
    for ((rows, weights),) in observation.rows([HookPoint(op.name, "output", op.writes) for op in linears], [[]]):
        squares = rows.unflatten(1, (-1, len(kept))).square()
        ratios = squares[..., kept].mean(-1).sqrt() / squares.mean(-1).sqrt().clamp_min(1e-30)
        total += float((ratios.mean(1) * weights).sum())
        count += float(weights.sum())
    return total / count


def _solution(norm: Norm, sums: Float[Tensor, "5 unit"]) -> dict[str, Tensor]:
    count, x, y, xx, xy = sums
    if not norm.bias:
        return {norm.gain: xy / xx.clamp_min(1e-12)}
    variance = (xx / count - (x / count).square()).clamp_min(1e-12)
    gain = (xy / count - x * y / count**2) / variance
    return {norm.gain: gain, f"{norm.name}.{norm.bias}": (y - gain * x) / count}
