"""Elements of exact groups as functions of free numbers: what gradient descent can move without leaving the group.

Rotations are exponentials of skew matrices, those that fix the all-ones vector of skew matrices without it; invertible
matrices are exponentials of matrices whose symmetric part is bounded, which bounds their condition number
(|exp A| <= exp of the largest eigenvalue of A's symmetric part); planes have an angle and a scale. Permutations are
the assignments nearest to a latent matrix, their gradient that of its Sinkhorn projection (straight-through, as Theus
et al. 2506.22712; theirs is the gradient of the latent itself).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from transfuse.alignment.exact.groups import assignment_element, procrustes_element
from transfuse.network.space import Group, Space
from transfuse.transport.maps import Invertible, Map, Permutation, SignedPermutation, rotation

CONDITION = 1e4  # of an invertible matrix, at most
SHARPNESS = 8.0  # a latent's entries are exponents of its Sinkhorn projection, times this
ROUNDS = 10  # of that projection

Matrices = Float[Tensor, "*within unit unit"]


class GroupParameters(nn.Module):
    """Free numbers for one element per space; at first they stand for the identity, and nothing moves."""

    def __init__(self, spaces: Mapping[str, Space], device: torch.device) -> None:
        super().__init__()
        self.spaces = dict(spaces)
        self.names = {name: f"p{index}" for index, name in enumerate(self.spaces)}  # a module's names have no dots
        self.values = nn.ParameterDict({self.names[name]: _start(space) for name, space in self.spaces.items()})
        self.to(device)

    def soft(self) -> dict[str, Map]:
        """The elements, as maps that pass gradients on."""
        return {name: _element(space, self.values[self.names[name]]) for name, space in self.spaces.items()}

    @torch.no_grad()
    def hard(self) -> dict[str, Map]:
        """The elements in float64, permutations as an index."""
        found = {name: self.values[self.names[name]].detach().double().cpu() for name in self.spaces}
        return {name: _hard(space, found[name]) for name, space in self.spaces.items()}


def movable(space: Space) -> bool:
    """Whether its group has any element that gradients can reach: of a single unit, a scale alone."""
    return space.units > 1 or space.group in (Group.POSITIVE, Group.LINEAR)


def _start(space: Space) -> nn.Parameter:
    outer = [parent.units for parent in space.ancestors()]
    if space.group is Group.COMPLEX:
        return nn.Parameter(torch.zeros(*outer, 2))
    places = torch.eye(space.units).expand(*outer, -1, -1)
    if space.group is Group.PERMUTATION:
        return nn.Parameter(places.clone())
    if space.group is Group.SIGNED:
        return nn.Parameter(torch.stack([places, torch.ones_like(places)]))
    return nn.Parameter(torch.zeros(*outer, space.units, space.units))


def _hard(space: Space, latent: Tensor) -> Map:
    match space.group:
        case Group.PERMUTATION:
            return Permutation(assignment_element(latent))
        case Group.SIGNED:
            places, signs = latent.unbind()
            index = assignment_element(places)
            sign = signs.gather(-2, index.unsqueeze(-2)).squeeze(-2).sign()
            return SignedPermutation(index, sign.where(sign != 0, sign.new_ones(())))
    return _element(space, latent)


def _element(space: Space, latent: Tensor) -> Map:
    match space.group:
        case Group.PERMUTATION:
            return rotation(_straight_through(_hard(space, latent.detach()), latent))
        case Group.SIGNED:
            return rotation(_straight_through(_hard(space, latent.detach()), *latent.unbind()))
        case Group.ORTHOGONAL:
            return rotation(torch.linalg.matrix_exp(_skew(latent)))
        case Group.CENTRED:
            return rotation(torch.linalg.matrix_exp(_skew(_without_ones(latent))))
        case Group.COMPLEX:
            return _plane(*latent.unbind(-1))
        case Group.POSITIVE:
            size = _bounded(latent)
            return Invertible(size.exp(), (-size).exp())
        case Group.LINEAR:
            free = _skew(latent) + _bounded((latent + latent.transpose(-1, -2)) / 2)
            return Invertible(torch.linalg.matrix_exp(free), torch.linalg.matrix_exp(-free.transpose(-1, -2)))
    raise ValueError(f"a {space.group} space has no map")


def _skew(latent: Matrices) -> Matrices:
    return (latent - latent.transpose(-1, -2)) / 2


def _without_ones(latent: Matrices) -> Matrices:
    """Its rows and columns made orthogonal to the all-ones vector."""
    centred = latent - latent.mean(-1, keepdim=True)
    return centred - centred.mean(-2, keepdim=True)


def _bounded(symmetric: Matrices) -> Matrices:
    """No eigenvalue beyond half the logarithm of the largest condition number, by the Frobenius norm."""
    limit = torch.tensor(CONDITION).log().item() / 2
    norm = symmetric.square().sum((-1, -2), keepdim=True).clamp_min(1e-24).sqrt()
    return symmetric * (limit / norm).clamp_max(1.0)


def _plane(angle: Float[Tensor, "*within"], size: Float[Tensor, "*within"]) -> Invertible:
    turn, bounded = procrustes_element(angle), _bounded(size[..., None, None])
    return Invertible(bounded.exp() * turn, (-bounded).exp() * turn)


def _straight_through(chosen: Map, latent: Matrices, signs: Matrices | None = None) -> Matrices:
    """The value of a hard map, the gradient of its latent's Sinkhorn projection."""
    eye = torch.eye(latent.shape[-1], dtype=latent.dtype, device=latent.device)
    hard = chosen.push(eye.expand(latent.shape))
    log = SHARPNESS * latent
    for _ in range(ROUNDS):
        log = log - log.logsumexp(-1, keepdim=True)
        log = log - log.logsumexp(-2, keepdim=True)
    soft = log.exp() if signs is None else log.exp() * signs
    return hard + soft - soft.detach()
