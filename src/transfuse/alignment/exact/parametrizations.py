"""Differentiable parametrizations of the exact groups, for gradient descent that does not leave the group.

Rotations are exponentials of skew-symmetric matrices. Rotations that fix the all-ones vector are exponentials of
skew-symmetric matrices whose rows and columns sum to zero. Invertible matrices are exponentials of matrices with a
bounded symmetric part, which bounds their condition number (|exp A| <= exp of the largest eigenvalue of A's symmetric
part). Planes have an angle and a scale. Permutations are the assignments nearest to a latent matrix, with the gradient
of its Sinkhorn projection (straight-through). Theus et al. (2506.22712) use the gradient of the latent matrix itself.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transfuse.alignment.exact.groups import best_permutation, plane_rotation
from transfuse.network.space import Group, Space
from transfuse.transport.maps import Invertible, Map, Permutation, SignedPermutation, rotation

MAX_CONDITION = 1e4  # of an invertible matrix
SHARPNESS = 8.0  # factor between a latent matrix and the exponents of its Sinkhorn projection
SINKHORN_ROUNDS = 10

Matrices = Float[Tensor, "*within unit unit"]


class GroupParameters(nn.Module):
    """The parameters of one group element per space, which is the identity at first."""

    def __init__(self, spaces: Mapping[str, Space], device: torch.device) -> None:
        super().__init__()
        self.spaces = dict(spaces)
        self.names = {name: f"p{index}" for index, name in enumerate(self.spaces)}  # a module's names have no dots
        self.values = nn.ParameterDict({self.names[name]: _initial(space) for name, space in self.spaces.items()})
        self.to(device)

    def relaxed(self) -> dict[str, Map]:
        """Return the elements as maps that pass gradients on."""
        return {name: _relaxed(space, self.values[self.names[name]]) for name, space in self.spaces.items()}

    @torch.no_grad()
    def rounded(self) -> dict[str, Map]:
        """Return the elements in float64 on the CPU, with permutations as an index."""
        latents = {name: self.values[self.names[name]].detach().double().cpu() for name in self.spaces}
        return {name: _rounded(space, latents[name]) for name, space in self.spaces.items()}


def is_trainable(space: Space) -> bool:
    """Return whether gradients can move the space's element: for a single unit, only a scale can be moved."""
    return space.units > 1 or space.group in (Group.POSITIVE, Group.LINEAR)


def _initial(space: Space) -> nn.Parameter:
    """Return the latent of the identity."""
    outer = [parent.units for parent in space.ancestors()]
    if space.group is Group.COMPLEX:
        return nn.Parameter(torch.zeros(*outer, 2))
    eye = torch.eye(space.units).expand(*outer, -1, -1)
    if space.group is Group.PERMUTATION:
        return nn.Parameter(eye.clone())
    if space.group is Group.SIGNED:
        return nn.Parameter(torch.stack([eye, torch.ones_like(eye)]))
    return nn.Parameter(torch.zeros(*outer, space.units, space.units))


def _rounded(space: Space, latent: Tensor) -> Map:
    match space.group:
        case Group.PERMUTATION:
            return Permutation(best_permutation(latent))
        case Group.SIGNED:
            scores, signs = latent.unbind()
            index = best_permutation(scores)
            sign = signs.gather(-2, index.unsqueeze(-2)).squeeze(-2).sign()
            return SignedPermutation(index, sign.where(sign != 0, sign.new_ones(())))
    return _relaxed(space, latent)


def _relaxed(space: Space, latent: Tensor) -> Map:
    match space.group:
        case Group.PERMUTATION:
            return rotation(_straight_through(_rounded(space, latent.detach()), latent))
        case Group.SIGNED:
            return rotation(_straight_through(_rounded(space, latent.detach()), *latent.unbind()))
        case Group.ORTHOGONAL:
            return rotation(torch.linalg.matrix_exp(_skew_part(latent)))
        case Group.CENTERED:
            return rotation(torch.linalg.matrix_exp(_skew_part(_doubly_centered(latent))))
        case Group.COMPLEX:
            return _scaled_rotation(*latent.unbind(-1))
        case Group.POSITIVE:
            exponent = _bounded(latent)
            return Invertible(exponent.exp(), (-exponent).exp())
        case Group.LINEAR:
            exponent = _skew_part(latent) + _bounded((latent + latent.transpose(-1, -2)) / 2)
            return Invertible(torch.linalg.matrix_exp(exponent), torch.linalg.matrix_exp(-exponent.transpose(-1, -2)))
    raise ValueError(f"a {space.group} space has no map")


def _skew_part(latent: Matrices) -> Matrices:
    return (latent - latent.transpose(-1, -2)) / 2


def _doubly_centered(latent: Matrices) -> Matrices:
    """Make rows and columns orthogonal to the all-ones vector."""
    centered = latent - latent.mean(-1, keepdim=True)
    return centered - centered.mean(-2, keepdim=True)


def _bounded(symmetric: Matrices) -> Matrices:
    """Limit every eigenvalue to half the logarithm of the largest condition number, by the Frobenius norm."""
    limit = torch.tensor(MAX_CONDITION).log().item() / 2
    norm = symmetric.square().sum((-1, -2), keepdim=True).clamp_min(1e-24).sqrt()
    return symmetric * (limit / norm).clamp_max(1.0)


def _scaled_rotation(angle: Float[Tensor, "*within"], log_scale: Float[Tensor, "*within"]) -> Invertible:
    turn = plane_rotation(angle)
    exponent = _bounded(log_scale[..., None, None])
    return Invertible(exponent.exp() * turn, (-exponent).exp() * turn)


def _straight_through(hard: Map, latent: Matrices, signs: Matrices | None = None) -> Matrices:
    """Return the matrix of a hard map, with the gradient of the Sinkhorn projection of its latent."""
    eye = torch.eye(latent.shape[-1], dtype=latent.dtype, device=latent.device)
    value = hard.push(eye.expand(latent.shape))
    log = SHARPNESS * latent
    for _ in range(SINKHORN_ROUNDS):
        log = log - log.logsumexp(-1, keepdim=True)
        log = log - log.logsumexp(-2, keepdim=True)
    soft = log.exp() if signs is None else log.exp() * signs
    return value + soft - soft.detach()
