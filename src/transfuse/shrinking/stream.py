"""The map of each residual stream to a narrower one.

Where norms can be folded into their readers, the stream is rotated so that its leading directions carry most of what
the readers read, and these are kept (as in SliceGPT, Ashkboos et al., 2401.15024). Elsewhere the units of the stream
cannot be mixed, so those are chosen that explain the others best.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.merging.fitting.gram import GramMatrix, accumulate, gram_matrix
from transfuse.merging.fitting.kept_units import chosen_units
from transfuse.network.axes import without_direction
from transfuse.network.operations import Norm
from transfuse.network.space import Dual, Space
from transfuse.network.spec import Spec
from transfuse.shrinking.maps import centered_basis, reconstruction, truncation, with_ones
from transfuse.shrinking.observe import Observation
from transfuse.transport.maps import Map

RIDGE = 1e-6  # penalty of the factors by which chosen units tell the others, relative to the mean square


def stream_map(stream: Space, width: int, observation: Observation) -> Map:
    """Return the map of a stream to a narrower one.

    Args:
        stream: the space in the symmetric declaration of the large widths.
        width: units of the narrower stream.
    """
    spec = observation.projection.cut
    norms = [norm for norm in spec.norms() if without_direction(norm.space) == stream]
    if rotates(spec, stream):
        centered = any(norm.centers for norm in norms)
        directions = _leading_directions(_covariance(norms, observation), width, centered)
        for norm in norms:
            if isinstance(norm.space, Dual) and norm.has_gain:
                directions = _along_gains(directions, observation.projection.large.state_dict()[norm.gain])
        has_gains = any(norm.has_gain for norm in norms)
        return truncation(with_ones(directions) if centered else directions, has_gains)
    return _chosen_units(norms, stream, width, observation)


def rotates(spec: Spec, stream: Space) -> bool:
    """Return whether a stream may be rotated: every norm on it is read by linear maps alone, or by a tied matrix.

    The gain of a norm in front of a tied matrix cannot be folded. It becomes the best gain in the rotated stream.
    """
    for norm in spec.norms():
        folds = not norm.has_gain or (bool(spec.readers(norm)) and not norm.is_output)
        if norm.space == stream and not folds:
            return False
    for linear in spec.linears():
        if linear.norm is None and stream in linear.reads:
            return False
        if linear.activated and linear.writes == stream:
            return False
    return any(without_direction(norm.space) == stream for norm in spec.norms())


def _covariance(norms: list[Norm], observation: Observation) -> Float[Tensor, "unit unit"]:
    """Return the second moments of the normalized stream, summed over all norms."""
    points = [HookPoint(norm.name, "input", norm.space) for norm in norms]
    readers = [[linear.name for linear in observation.projection.cut.readers(norm)] for norm in norms]
    total: Tensor | None = None
    for batch_rows in observation.rows(points, readers):
        for norm, (rows, weights) in zip(norms, batch_rows, strict=True):
            normalized = normalize(rows, norm)
            product = ((normalized * weights.unsqueeze(1)).T @ normalized).double() / weights.sum()
            total = product if total is None else total.add_(product)
    assert total is not None
    return total


def normalize(rows: Float[Tensor, "row unit"], norm: Norm) -> Float[Tensor, "row unit"]:
    """Return rows as a norm without gain and bias returns them."""
    centered = rows - rows.mean(1, keepdim=True) if norm.centers else rows
    return centered / centered.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)


def _leading_directions(
    covariance: Float[Tensor, "unit unit"], width: int, centered: bool
) -> Float[Tensor, "unit kept"]:
    """Return the directions with the largest moments; one fewer than the width if all must sum to zero."""
    if not centered:
        return torch.linalg.eigh(covariance)[1][:, -width:].flip(1)
    basis = centered_basis(len(covariance)).to(covariance)
    _, vectors = torch.linalg.eigh(basis.T @ covariance @ basis)
    return (basis @ vectors[:, len(vectors) - (width - 1) :]).flip(1)


def _along_gains(directions: Float[Tensor, "unit kept"], gains: Float[Tensor, " unit"]) -> Float[Tensor, "unit kept"]:
    """Return directions of the same span in which the gains that cannot be folded are still one per direction."""
    gains = gains.to(directions)
    _, vectors = torch.linalg.eigh(directions.T @ (gains.unsqueeze(1) * directions))
    return directions @ vectors


def _chosen_units(norms: list[Norm], stream: Space, width: int, observation: Observation) -> Map:
    """Return the map to the units that explain the whole stream best."""
    moments: GramMatrix | None = None
    points = [HookPoint(norm.name, "output", norm.space) for norm in norms if not isinstance(norm.space, Dual)]
    for batch_rows in observation.rows(points, [[]] * len(points)):
        for rows, weights in batch_rows:
            moments = accumulate(moments, gram_matrix(rows, [rows], weights))
    assert moments is not None
    units = torch.arange(stream.units).unsqueeze(1)
    index = chosen_units(moments, units, width)
    chosen = moments.select_inputs(index)
    return reconstruction(index, chosen.solve(RIDGE, torch.zeros_like(chosen.cross)).T)
