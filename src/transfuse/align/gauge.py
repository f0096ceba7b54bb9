"""A canonical gauge: what an exact group lets one choose freely is chosen the same way in every model.

Channels that only meet their own dual (queries and keys, values and their output) may be mixed by any invertible M.
The gauge with equal Gram matrices on both sides leaves only rotations, which Procrustes then finds: together they
match over the whole linear group. Norms are folded first (`network.symmetry.fold`).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.lazy import Lazy, Tensors
from transfuse.merge.apply import carry_all
from transfuse.network.space import Group, Mode, Space, leaves
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold
from transfuse.transport.maps import Matrix, invertible

SCALED = (Group.LINEAR, Group.COMPLEX, Group.POSITIVE)
SPREAD = 1e4  # largest ratio that balancing may put between two directions of a space


def canonical(spec: Spec, tensors: Tensors) -> Lazy:
    """The same function with norms folded, the stream centred, and every space that can be scaled balanced."""
    folded = fold(spec, tensors)
    return carry_all(spec, folded, balance(spec, folded))


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
        for space, sides in grams.items() if len(sides) == 2
    }  # fmt: skip


def _alike(space: Space, gram: Float[Tensor, "*within unit unit"]) -> Float[Tensor, "*within unit unit"]:
    """Of a plane, a multiple of the identity; of other spaces, as it is."""
    if space.group is not Group.COMPLEX:
        return gram
    return _scale(gram) * torch.eye(space.units, dtype=gram.dtype, device=gram.device)


def _balancing(
    writers: Float[Tensor, "*within unit unit"], readers: Float[Tensor, "*within unit unit"]
) -> Float[Tensor, "*within unit unit"]:
    """The symmetric M with M A M = M^-1 B M^-1: the square root of the geometric mean of A^-1 and B."""
    floor = (1e-8 * (_scale(writers) + _scale(readers))).clamp_min(1e-12)  # pruned heads are all zeros
    identity = torch.eye(writers.shape[-1], dtype=writers.dtype, device=writers.device)
    a, b = writers + floor * identity, readers + floor * identity
    root, inverse = _power(a, 0.5), _power(a, -0.5)
    return _power(inverse @ _power(root @ b @ root, 0.5) @ inverse, 0.5)


def _scale(gram: Tensor) -> Tensor:
    return gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]


def _power(matrix: Float[Tensor, "*within unit unit"], exponent: float) -> Float[Tensor, "*within unit unit"]:
    values, vectors = torch.linalg.eigh((matrix + matrix.transpose(-1, -2)) / 2)
    values = values.clamp_min(values.amax(-1, keepdim=True) / SPREAD**2)
    return (vectors * values.pow(exponent).unsqueeze(-2)) @ vectors.transpose(-1, -2)
