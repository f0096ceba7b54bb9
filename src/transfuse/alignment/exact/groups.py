"""What each exact group is to an alignment: a random element of it, and its best element for a cross-moment."""

from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.transport.assignment import assignments
from transfuse.transport.maps import Map, Matrix, Permutation, SignedPermutation, invertible, rotation
from transfuse.transport.solve import centred_procrustes, procrustes

Element = Float[Tensor, "*within source target"]  # of a group, as a matrix


def best_element(group: Group, cross: Float[Tensor, "*within units units"]) -> Map:
    """The element that maximises <element, cross> over the whole group.

    Of spaces that can be scaled, over those elements that a balanced gauge leaves: rotations; for a positive scale, 1.
    """
    match group:
        case Group.PERMUTATION:
            return Permutation(assignment_element(cross))
        case Group.SIGNED:
            index = assignment_element(cross.abs())
            sign = cross.gather(-2, index.unsqueeze(-2)).squeeze(-2).sign()
            return SignedPermutation(index, sign.where(sign != 0, sign.new_ones(())))
        case Group.CENTRED:
            return centred_procrustes(cross)
        case Group.COMPLEX:
            return rotation(_turn(cross))
        case Group.POSITIVE:
            return rotation(torch.ones_like(cross))
        case Group.ORTHOGONAL | Group.LINEAR:
            return rotation(_sign(cross) if cross.shape[-1] == 1 else procrustes(cross)[0])
    raise ValueError(f"a {group} space has no map")


def as_matrix(chosen: Map, units: int) -> Element:
    """A hard map or a rotation as the matrix it pushes by."""
    chosen = chosen.taken()
    if isinstance(chosen, Permutation):
        identity = torch.eye(units, dtype=torch.float64, device=chosen.index.device)
        return chosen.push(identity.expand(*chosen.index.shape[:-1], units, units))
    assert isinstance(chosen, Matrix)
    return chosen.forward


def best_score(group: Group, cross: Float[Tensor, "*within units units"]) -> Float[Tensor, "*within"]:
    """The maximum of <element, cross> over the group: how well two sets of units can be matched."""
    if group in (Group.ORTHOGONAL, Group.LINEAR) and cross.shape[-1] > 1:
        return procrustes(cross)[1]
    return (as_matrix(best_element(group, cross), cross.shape[-1]) * cross).sum((-1, -2))


def assignment_element(score: Float[Tensor, "*within source target"]) -> Int[Tensor, "*within target"]:
    """Of the largest sum of scores: source units by target unit."""
    return assignments(score.reshape(-1, *score.shape[-2:])).reshape(score.shape[:-1])


def procrustes_element(angle: Float[Tensor, "*within"]) -> Float[Tensor, "*within 2 2"]:
    """The rotation of a plane."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)


def identity(space: Space) -> Map:
    """What changes nothing, one per unit of the spaces around it."""
    outer = [parent.units for parent in space.ancestors()]
    index = torch.arange(space.units).expand(*outer, -1)
    match space.group:
        case Group.PERMUTATION:
            return Permutation(index)
        case Group.SIGNED:
            return SignedPermutation(index, torch.ones(index.shape, dtype=torch.float64))
    return rotation(torch.eye(space.units, dtype=torch.float64).expand(*outer, -1, -1))


def _sign(cross: Float[Tensor, "*within 1 1"]) -> Float[Tensor, "*within 1 1"]:
    return torch.where(cross < 0, -1.0, 1.0).to(cross)


def _turn(cross: Float[Tensor, "*within 2 2"]) -> Float[Tensor, "*within 2 2"]:
    """The plane's rotation nearest to a cross-moment."""
    along = cross[..., 0, 0] + cross[..., 1, 1]
    across = cross[..., 0, 1] - cross[..., 1, 0]
    return procrustes_element(torch.atan2(across, along))


def random_element(space: Space, generator: torch.Generator) -> Map:
    """A random element of a space's group, one per unit of the spaces around it; never the identity.

    Permutations are derangements (rotations of a random order), so that no unit stays by chance.
    """
    shape = [parent.units for parent in space.ancestors()]
    units = space.units
    match space.group:
        case Group.PERMUTATION:
            return Permutation(_derangements(shape, units, generator))
        case Group.SIGNED:
            signs = torch.randint(2, (*shape, units), generator=generator).double() * 2 - 1
            return SignedPermutation(_derangements(shape, units, generator), signs)
        case Group.COMPLEX:
            angle = 0.3 + 2.4 * torch.rand(*shape, generator=generator, dtype=torch.float64)
            return invertible(_scales((*shape, 1, 1), generator) * procrustes_element(angle))
        case Group.POSITIVE:
            return invertible(_scales((*shape, 1, 1), generator))
        case Group.LINEAR | Group.ORTHOGONAL if units == 1:
            size = _scales((*shape, 1, 1), generator) if space.group is Group.LINEAR else torch.ones(*shape, 1, 1)
            return invertible(-size.double())
        case Group.ORTHOGONAL:
            return rotation(_orthogonal(shape, units, generator))
        case Group.CENTRED:
            basis = torch.linalg.qr(torch.cat([torch.ones(units, 1), torch.eye(units)[:, 1:]], 1).double())[0][:, 1:]
            mixed = basis @ _orthogonal(shape, units - 1, generator) @ basis.T
            return rotation(mixed + torch.full((units, units), 1 / units, dtype=mixed.dtype))
        case Group.LINEAR:
            left, right = (_orthogonal(shape, units, generator) for _ in range(2))
            return invertible(left @ (_scales((*shape, units, 1), generator) * right))
    raise ValueError(f"a {space.group} space has no map")


def random_alignment(spec: Spec, seed: int) -> dict[str, Map]:
    """A random element of every free space's group."""
    generator = torch.Generator().manual_seed(seed)
    return {name: random_element(space, generator) for name, space in spec.spaces().items() if _moves(space)}


def _moves(space: Space) -> bool:
    """Whether its group has any element but the identity."""
    return space.units > 1 or space.group not in (Group.PERMUTATION, Group.CENTRED)


def _scales(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Positive numbers that are not one."""
    return 1.2 + 0.8 * torch.rand(*shape, generator=generator, dtype=torch.float64)


def _derangements(shape: list[int], units: int, generator: torch.Generator) -> Int[Tensor, "*within units"]:
    orders = [torch.randperm(units, generator=generator) for _ in range(prod(shape))]
    return torch.stack([torch.empty_like(order).scatter(0, order, order.roll(1)) for order in orders]).reshape(
        *shape, units
    )


def _orthogonal(shape: list[int], units: int, generator: torch.Generator) -> Tensor:
    matrix = torch.randn(*shape, units, units, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(matrix)
    return q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)
