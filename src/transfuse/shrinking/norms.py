"""Norms over a choice of units: their mean and spread differ, which gain and bias make up for."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.errors import SpecError
from transfuse.network.axes import Mode, axis_terms, leaves
from transfuse.network.operations import Linear, Norm, Parameter
from transfuse.network.space import Space
from transfuse.network.spec import Spec
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
    found: dict[str, tuple[Linear, Bool[Tensor, " channel"]]] = {}
    for gain in (op for op in projection.cut.ops if isinstance(op, Parameter)):
        for space in (space for space in gain.spaces() if space.name.endswith(".frequency")):
            if space.name in projection.maps:
                pairs = f"{space.name.removesuffix('frequency')}pair"
                map_ = projection.maps[pairs]
                kept = map_.scale_back(torch.eye(map_.units[0])).any(1).repeat(2)  # both channels of each plane
                found[gain.name] = _writer(projection.cut, pairs, leaves(gain.axes[-1])[-1][1]), kept
    if not found:
        return {}
    totals = dict.fromkeys(found, 0.0)
    count = 0.0
    points = [HookPoint(linear.name, "output", linear.writes) for linear, _ in found.values()]
    for batch_rows in observation.rows(points, [[]] * len(points)):
        for (name, (_, kept)), (rows, weights) in zip(found.items(), batch_rows, strict=True):
            squares = rows.unflatten(1, (-1, len(kept))).square()
            ratios = squares[..., kept].mean(-1).sqrt() / squares.mean(-1).sqrt().clamp_min(1e-30)
            totals[name] += float((ratios.mean(1) * weights).sum())
        count += float(batch_rows[0][1].sum())
    return {name: total / count for name, total in totals.items()}


def _writer(spec: Spec, pairs: str, mode: Mode) -> Linear:
    """Return the linear map of the queries, which write the planes of channels, or of the keys, which read them."""
    for linear in spec.linears():
        for _, term in axis_terms(linear.writes):
            if any((space.name, own) == (pairs, mode) for space, own in leaves(term)):
                return linear
    raise SpecError(f"{spec.family}: no linear map has the channels {pairs}; leave head_size as it is")


def _solution(norm: Norm, sums: Float[Tensor, "5 unit"]) -> dict[str, Tensor]:
    count, x, y, xx, xy = sums
    if not norm.bias:
        return {norm.gain: xy / xx.clamp_min(1e-12)}
    variance = (xx / count - (x / count).square()).clamp_min(1e-12)
    gain = (xy / count - x * y / count**2) / variance
    return {norm.gain: gain, f"{norm.name}.{norm.bias}": (y - gain * x) / count}
