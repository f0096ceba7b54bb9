"""A canonical gauge: what an exact group lets one choose freely is chosen the same way in every model.

Channels that only meet their own dual (queries and keys, values and their output) may be mixed by any invertible M.
The gauge with equal Gram matrices on both sides leaves only rotations, which Procrustes then finds: together they
match over the whole linear group. Norms are folded first (`network.symmetry.fold`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Lazy, Tensors
from transfuse.network.space import Group, Mode, Space, leaves
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold
from transfuse.transport.maps import Matrix, invertible

SCALED = (Group.LINEAR, Group.COMPLEX, Group.POSITIVE)
SPREAD = 1e4  # largest ratio that balancing may put between two directions of a space
FLOOR = 1e-8  # of the mean square, added to every direction: channels may be zero


def canonicalize(spec: Spec, tensors: Tensors) -> Lazy:
    """The same function with norms folded, the stream centred, and every space that can be scaled balanced."""
    folded = fold(spec, tensors)
    return transform_all(spec, folded, balance(spec, folded))


def balance(spec: Spec, tensors: Tensors) -> dict[str, Matrix]:
    """For every space that can be scaled, the map after which its writers' and its readers' Gram matrices are equal.

    Of planes that may only be turned and scaled, their traces.
    """
    grams: dict[Space, dict[Mode, Tensor]] = {}
    biases = spec.part("biases")
    for name, axes in spec.tensors().items():
        found = [leaf for axis in axes for leaf in leaves(axis)]
        if name in biases or not any(space.group in SCALED for space, _ in found):
            continue  # a constant says nothing of size
        values = tensors[name].double().reshape([space.units for space, _ in found])
        for place, (space, mode) in enumerate(found):
            if space.group in SCALED:
                outer = [next(i for i, (each, _) in enumerate(found) if each == parent) for parent in space.ancestors()]
                last = values.movedim([*outer, place], [*range(len(outer)), -1])
                rows = last.reshape(*last.shape[: len(outer)], -1, space.units)
                side = grams.setdefault(space, {})
                side[mode] = side.get(mode, 0) + rows.transpose(-1, -2) @ rows
    return {
        space.name: invertible(_balancing(*(_alike(space, sides[mode]) for mode in (Mode.WRITES, Mode.READS))))
        for space, sides in grams.items()
        if len(sides) == 2
    }


def _alike(space: Space, gram: Float[Tensor, "*within unit unit"]) -> Float[Tensor, "*within unit unit"]:
    """Of a plane, a multiple of the identity; of other spaces, as it is."""
    if space.group is not Group.COMPLEX:
        return gram
    return _scale(gram) * torch.eye(space.units, dtype=gram.dtype, device=gram.device)


def _balancing(
    writers: Float[Tensor, "*within unit unit"], readers: Float[Tensor, "*within unit unit"]
) -> Float[Tensor, "*within unit unit"]:
    """Return an M that makes both Gram matrices equal: M^T A M = M^-1 B M^-T.

    Every unit is scaled first, so that a factor of any size between both sides costs no precision; what is left is the
    square root of the geometric mean of A^-1 and B.
    """
    a, b = (gram.diagonal(dim1=-2, dim2=-1) for gram in (writers, readers))
    factors = torch.where((a > 0) & (b > 0), b / a, torch.ones_like(a)).pow(0.25).unsqueeze(-1)  # pruned units: as is
    outer = factors * factors.transpose(-1, -2)
    first, second = (_floored(gram) for gram in (writers * outer, readers / outer))
    root, inverse = _power(first, 0.5), _power(first, -0.5)
    return factors * _power(inverse @ _power(root @ second @ root, 0.5) @ inverse, 0.5)


def _floored(gram: Float[Tensor, "*within unit unit"]) -> Float[Tensor, "*within unit unit"]:
    """Add to every direction a share of the mean square, as some may be zero; all of them in a pruned head."""
    floor = FLOOR * _scale(gram).where(_scale(gram) > 0, gram.new_ones(()))
    return gram + floor * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def _scale(gram: Tensor) -> Tensor:
    return gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]


def _power(matrix: Float[Tensor, "*within unit unit"], exponent: float) -> Float[Tensor, "*within unit unit"]:
    values, vectors = torch.linalg.eigh((matrix + matrix.transpose(-1, -2)) / 2)
    values = values.clamp_min(values.amax(-1, keepdim=True) / SPREAD**2)
    return (vectors * values.pow(exponent).unsqueeze(-2)) @ vectors.transpose(-1, -2)
