"""Elements of the exact groups: the best one for a cross-moment, the identity, and random ones."""

from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.transport.assignment import assignments
from transfuse.transport.maps import Map, Matrix, Permutation, SignedPermutation, invertible, rotation
from transfuse.transport.solve import centered_procrustes, procrustes

Element = Float[Tensor, "*within source target"]
"""An element of a group as a matrix."""


def best_element(group: Group, cross: Float[Tensor, "*within units units"]) -> Map:
    """Return the element that maximizes <element, cross> over the whole group.

    Spaces that can be scaled are in canonical form, in which only rotations remain. A positive scale is 1.

    Raises:
        ValueError: the group is fixed.
    """
    match group:
        case Group.PERMUTATION:
            return Permutation(best_permutation(cross))
        case Group.SIGNED:
            index = best_permutation(cross.abs())
            sign = cross.gather(-2, index.unsqueeze(-2)).squeeze(-2).sign()
            return SignedPermutation(index, sign.where(sign != 0, sign.new_ones(())))
        case Group.CENTERED:
            return centered_procrustes(cross)
        case Group.COMPLEX:
            return rotation(_best_plane_rotation(cross))
        case Group.POSITIVE:
            return rotation(torch.ones_like(cross))
        case Group.ORTHOGONAL | Group.LINEAR:
            return rotation(_best_sign(cross) if cross.shape[-1] == 1 else procrustes(cross)[0])
    raise ValueError(f"a {group} space has no map")


def best_permutation(score: Float[Tensor, "*within source target"]) -> Int[Tensor, "*within target"]:
    """Return the assignment of the largest total score, as the source unit of each target unit."""
    return assignments(score.reshape(-1, *score.shape[-2:])).reshape(score.shape[:-1])


def plane_rotation(angle: Float[Tensor, "*within"]) -> Float[Tensor, "*within 2 2"]:
    """Return the matrix that rotates a plane by an angle."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, sine], -1), torch.stack([-sine, cosine], -1)], -2)


def as_matrix(element: Map, units: int) -> Element:
    """Return the matrix by which a permutation or a rotation pushes values."""
    if isinstance(element, Permutation):
        eye = torch.eye(units, dtype=torch.float64, device=element.index.device)
        return element.push(eye.expand(*element.index.shape[:-1], units, units))
    assert isinstance(element, Matrix)
    return element.forward


def identity(space: Space) -> Map:
    """Return the identity, once per unit of the enclosing spaces."""
    outer = [parent.units for parent in space.ancestors()]
    index = torch.arange(space.units).expand(*outer, -1)
    match space.group:
        case Group.PERMUTATION:
            return Permutation(index)
        case Group.SIGNED:
            return SignedPermutation(index, torch.ones(index.shape, dtype=torch.float64))
    return rotation(torch.eye(space.units, dtype=torch.float64).expand(*outer, -1, -1))


def _best_sign(cross: Float[Tensor, "*within 1 1"]) -> Float[Tensor, "*within 1 1"]:
    return torch.where(cross < 0, -1.0, 1.0).to(cross)


def _best_plane_rotation(cross: Float[Tensor, "*within 2 2"]) -> Float[Tensor, "*within 2 2"]:
    along = cross[..., 0, 0] + cross[..., 1, 1]
    across = cross[..., 0, 1] - cross[..., 1, 0]
    return plane_rotation(torch.atan2(across, along))


def random_alignment(spec: Spec, seed: int) -> dict[str, Map]:
    """Return a random element of every free space's group, by the name of the space."""
    generator = torch.Generator().manual_seed(seed)
    return {name: random_element(space, generator) for name, space in spec.spaces().items() if _is_movable(space)}


def random_element(space: Space, generator: torch.Generator) -> Map:
    """Return a random element of a space's group, one per unit of the enclosing spaces, and never the identity.

    Permutations are derangements (cyclic shifts of a random order), so that no unit stays in place by chance.

    Raises:
        ValueError: the space is fixed.
    """
    outer = [parent.units for parent in space.ancestors()]
    units = space.units
    match space.group:
        case Group.PERMUTATION:
            return Permutation(_derangements(outer, units, generator))
        case Group.SIGNED:
            signs = torch.randint(2, (*outer, units), generator=generator).double() * 2 - 1
            return SignedPermutation(_derangements(outer, units, generator), signs)
        case Group.COMPLEX:
            angle = 0.3 + 2.4 * torch.rand(*outer, generator=generator, dtype=torch.float64)
            return invertible(_scales((*outer, 1, 1), generator) * plane_rotation(angle))
        case Group.POSITIVE:
            return invertible(_scales((*outer, 1, 1), generator))
        case Group.LINEAR | Group.ORTHOGONAL if units == 1:
            scale = _scales((*outer, 1, 1), generator) if space.group is Group.LINEAR else torch.ones(*outer, 1, 1)
            return invertible(-scale.double())
        case Group.ORTHOGONAL:
            return rotation(_orthogonal(outer, units, generator))
        case Group.CENTERED:
            basis = torch.linalg.qr(torch.cat([torch.ones(units, 1), torch.eye(units)[:, 1:]], 1).double())[0][:, 1:]
            mixed = basis @ _orthogonal(outer, units - 1, generator) @ basis.T
            return rotation(mixed + torch.full((units, units), 1 / units, dtype=mixed.dtype))
        case Group.LINEAR:
            left, right = (_orthogonal(outer, units, generator) for _ in range(2))
            return invertible(left @ (_scales((*outer, units, 1), generator) * right))
    raise ValueError(f"a {space.group} space has no map")


def _is_movable(space: Space) -> bool:
    """Return whether the space's group has any element but the identity."""
    return space.units > 1 or space.group not in (Group.PERMUTATION, Group.CENTERED)


def _scales(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw numbers between 1.2 and 2."""
    return 1.2 + 0.8 * torch.rand(*shape, generator=generator, dtype=torch.float64)


def _derangements(outer: list[int], units: int, generator: torch.Generator) -> Int[Tensor, "*within units"]:
    orders = [torch.randperm(units, generator=generator) for _ in range(prod(outer))]
    shifted = [torch.empty_like(order).scatter(0, order, order.roll(1)) for order in orders]
    return torch.stack(shifted).reshape(*outer, units)


def _orthogonal(outer: list[int], units: int, generator: torch.Generator) -> Tensor:
    matrix = torch.randn(*outer, units, units, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(matrix)
    return q * torch.diagonal(r, dim1=-2, dim2=-1).sign().unsqueeze(-2)
