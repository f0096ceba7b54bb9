"""What each exact group is to an alignment: a random element of it, and its best element for a cross-moment."""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.transport.maps import Map, Permutation, invertible, rotation
from transfuse.transport.solve import assignment, centred_procrustes, procrustes


def best(group: Group, cross: Float[Tensor, "*within units units"]) -> Map:
    """The element that maximises <element, cross> over the whole group (LINEAR: over its rotations)."""
    match group:
        case Group.PERMUTATION:
            orders = [assignment(each) for each in cross.reshape(-1, *cross.shape[-2:])]
            return Permutation(torch.stack(orders).reshape(cross.shape[:-1]))
        case Group.CENTRED:
            return centred_procrustes(cross)
        case Group.ORTHOGONAL | Group.LINEAR:
            return rotation(procrustes(cross)[0])
    raise ValueError(f"a {group} space has no map")


def best_score(group: Group, cross: Float[Tensor, "*within units units"]) -> Float[Tensor, "*within"]:
    """The maximum of <element, cross> over the group: how well two sets of units can be matched."""
    match group:
        case Group.FIXED:
            return cross.diagonal(dim1=-2, dim2=-1).sum(-1)
        case Group.ORTHOGONAL | Group.LINEAR:
            return procrustes(cross)[1]
    chosen = best(group, cross)
    identity = torch.eye(cross.shape[-1], dtype=cross.dtype).expand(cross.shape)
    return (chosen.push(identity) * cross).sum((-1, -2))


def random_element(space: Space, generator: torch.Generator) -> Map:
    """A random element of a space's group, one per unit of the spaces around it; never the identity.

    Permutations are derangements (rotations of a random order), so that no unit stays by chance.
    """
    shape = [parent.units for parent in space.ancestors()]
    units = space.units
    match space.group:
        case Group.PERMUTATION:
            orders = [_derangement(units, generator) for _ in range(_count(shape))]
            return Permutation(torch.stack(orders).reshape(*shape, units))
        case Group.ORTHOGONAL:
            return rotation(_orthogonal(shape, units, generator))
        case Group.CENTRED:
            basis = torch.linalg.qr(torch.cat([torch.ones(units, 1), torch.eye(units)[:, 1:]], 1).double())[0][:, 1:]
            mixed = basis @ _orthogonal(shape, units - 1, generator) @ basis.T
            return rotation(mixed + torch.full((units, units), 1 / units, dtype=mixed.dtype))
        case Group.LINEAR:
            left, right = (_orthogonal(shape, units, generator) for _ in range(2))
            scales = 0.5 + 1.5 * torch.rand(*shape, units, 1, generator=generator, dtype=torch.float64)
            return invertible(left @ (scales * right))
    raise ValueError(f"a {space.group} space has no map")


def random_alignment(spec: Spec, seed: int) -> dict[str, Map]:
    """A random element of every free space's group."""
    generator = torch.Generator().manual_seed(seed)
    return {name: random_element(space, generator) for name, space in spec.spaces().items() if space.units > 1}


def _count(shape: list[int]) -> int:
    return int(torch.tensor(shape).prod()) if shape else 1


def _derangement(units: int, generator: torch.Generator) -> Tensor:
    order = torch.randperm(units, generator=generator)
    index = torch.empty_like(order)
    index[order] = order.roll(1)
    return index


def _orthogonal(shape: list[int], units: int, generator: torch.Generator) -> Tensor:
    matrix = torch.randn(*shape, units, units, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(matrix)
    return q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)
