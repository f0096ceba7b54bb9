"""A canonical gauge: what an exact group lets one choose freely is chosen the same way in every model.

Channels that only meet their own dual (queries and keys, values and their output) may be mixed by any invertible M.
The gauge with equal Gram matrices on both sides leaves only rotations, which Procrustes then finds: together they
match over the whole linear group. Norms are folded first (`network.symmetry.fold`).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.merge.apply import carry_all
from transfuse.network.space import Axis, Dual, Group, Product, Space, bare
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold
from transfuse.transport.maps import Matrix, invertible

SPREAD = 1e4  # largest ratio that balancing may put between two directions of a space


def canonical(spec: Spec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same function with norms folded, the stream centred, and every linear space balanced."""
    folded = fold(spec, tensors)
    return carry_all(spec, folded, balance(spec, folded))


def balance(spec: Spec, tensors: Mapping[str, Tensor]) -> dict[str, Matrix]:
    """For every linear space, the map after which what writes it and what reads it have equal Gram matrices."""
    grams: dict[str, dict[bool, Tensor]] = {}
    for name, axes in spec.tensors().items():
        for position, axis in enumerate(axes):
            inner, reads = _linear(axis)
            if inner is None or len(axes) == 1:
                continue
            rows = tensors[name].double().movedim(position, 0).flatten(1).unflatten(0, (-1, inner.units))
            side = grams.setdefault(inner.name, {})
            side[reads] = side.get(reads, 0) + rows @ rows.transpose(-1, -2)
    return {name: invertible(_balancing(sides[False], sides[True])) for name, sides in grams.items() if len(sides) == 2}


def _linear(axis: Axis) -> tuple[Space | None, bool]:
    """The linear space at the end of a product axis, and whether the axis reads it."""
    product = bare(axis)
    last = product.factors[-1] if isinstance(product, Product) else product
    space = bare(last)
    reads = isinstance(axis, Dual) != isinstance(last, Dual)
    return (space if isinstance(space, Space) and space.group is Group.LINEAR else None), reads


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
