"""The canonical form of a model: what an exact group leaves free is fixed in the same way in every model.

Channels that only meet their own dual (queries and keys, values and their output) may be mixed by any invertible
matrix. The form in which the Gram matrices of both sides are equal leaves only rotations, which Procrustes then finds.
Together, both steps match over the whole linear group. Norms are folded first (`network.symmetry.fold`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Lazy, Tensors
from transfuse.network.axes import Mode, leaves
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold
from transfuse.transport.maps import Matrix, invertible

SCALED = (Group.LINEAR, Group.COMPLEX, Group.POSITIVE)
MAX_RATIO = 1e4  # between the scales that balancing may give to two directions of a space
FLOOR = 1e-8  # share of the mean square that is added to every direction, because channels may be zero

Gram = Float[Tensor, "*within unit unit"]


def canonicalize(spec: Spec, tensors: Tensors) -> Lazy:
    """Return the same function with folded norms, a centered residual stream and balanced spaces."""
    folded = fold(spec, tensors)
    return transform_all(spec, folded, balance(spec, folded))


def balance(spec: Spec, tensors: Tensors) -> dict[str, Matrix]:
    """Return, for every space that can be scaled, the map that makes its writers' and readers' Gram matrices equal.

    For planes, which can only be rotated and scaled, it makes the traces equal.
    """
    grams: dict[Space, dict[Mode, Tensor]] = {}
    biases = spec.part("biases")
    for name, axes in spec.tensors().items():
        flat = [leaf for axis in axes for leaf in leaves(axis)]
        if name in biases or not any(space.group in SCALED for space, _ in flat):
            continue  # a constant tells nothing about scale
        values = tensors[name].double().reshape([space.units for space, _ in flat])
        dims = {space: dim for dim, (space, _) in reversed([*enumerate(flat)])}
        for dim, (space, mode) in enumerate(flat):
            if space.group in SCALED:
                outer = [dims[parent] for parent in space.ancestors()]
                last = values.movedim([*outer, dim], [*range(len(outer)), -1])
                rows = last.reshape(*last.shape[: len(outer)], -1, space.units)
                sides = grams.setdefault(space, {})
                sides[mode] = sides.get(mode, 0) + rows.transpose(-1, -2) @ rows
    matrices: dict[str, Matrix] = {}
    for space, sides in grams.items():
        if len(sides) == 2:
            writers, readers = (_isotropic(space, sides[mode]) for mode in (Mode.WRITES, Mode.READS))
            matrices[space.name] = invertible(_balancing_matrix(writers, readers))
    return matrices


def _isotropic(space: Space, gram: Gram) -> Gram:
    """Return the Gram matrix; for a plane, the multiple of the identity with the same trace."""
    if space.group is not Group.COMPLEX:
        return gram
    return _mean_square(gram) * torch.eye(space.units, dtype=gram.dtype, device=gram.device)


def _balancing_matrix(writers: Gram, readers: Gram) -> Gram:
    """Return an M that makes both Gram matrices equal: M^T A M = M^-1 B M^-T.

    Each unit is scaled first, so that a large factor between both sides costs no precision. The rest is the square root
    of the geometric mean of A^-1 and B.
    """
    a, b = (gram.diagonal(dim1=-2, dim2=-1) for gram in (writers, readers))
    scales = torch.where((a > 0) & (b > 0), b / a, torch.ones_like(a)).pow(0.25).unsqueeze(-1)  # 1 for pruned units
    outer = scales * scales.transpose(-1, -2)
    first, second = (_regularized(gram) for gram in (writers * outer, readers / outer))
    root = _power(first, 0.5)
    inverse = _power(first, -0.5)
    return scales * _power(inverse @ _power(root @ second @ root, 0.5) @ inverse, 0.5)


def _regularized(gram: Gram) -> Gram:
    """Add a share of the mean square to every direction, as some may be zero, and in a pruned head all are."""
    floor = FLOOR * _mean_square(gram).where(_mean_square(gram) > 0, gram.new_ones(()))
    return gram + floor * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)


def _mean_square(gram: Gram) -> Float[Tensor, "*within 1 1"]:
    return gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]


def _power(matrix: Gram, exponent: float) -> Gram:
    values, vectors = torch.linalg.eigh((matrix + matrix.transpose(-1, -2)) / 2)
    values = values.clamp_min(values.amax(-1, keepdim=True) / MAX_RATIO**2)
    return (vectors * values.pow(exponent).unsqueeze(-2)) @ vectors.transpose(-1, -2)
