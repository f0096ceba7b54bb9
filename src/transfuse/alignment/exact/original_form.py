"""The original form of a model, for another model in its canonical form.

A canonical form folds the gains of norms into what reads them, and balances channels. Here both are undone: the other
model keeps its function and gets the gains, norms and scales of the original. The difference between the two is mapped,
so that a tensor in which they agree is that of the original, and a difference of low rank keeps its rank.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor

from transfuse.alignment.exact.canonical_form import balance
from transfuse.alignment.transform import transform_all
from transfuse.base.lazy import Lazy, Tensors
from transfuse.network.operations import Linear, Norm
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold, folded_norms, folded_scales, is_tiny, shifted_biases
from transfuse.transport.maps import Invertible, Matrix


def original_form(spec: Spec, original: Tensors, changed: Tensors) -> Lazy | None:
    """Return a model in the form of an original, given the tensors of both. A tensor is computed when it is read.

    Args:
        spec: the symmetric declaration of both.
        original: the tensors of the original as it is, unfused.
        changed: those of a model in the canonical form of the original (`canonicalize`).

    Returns:
        The tensors, unfused; None if a gain or scale of the original is so small beside the largest that it cannot be
        divided by.
    """
    norms, scales = folded_norms(spec), folded_scales(spec)
    if any(
        is_tiny(original[name]).any() for name in [norm.gain for norm, _ in norms] + [scale.name for scale, _ in scales]
    ):
        return None
    folded = fold(spec, original)
    balancing = balance(spec, folded)
    canonical, other = transform_all(spec, folded, balancing), fold(spec, changed)  # whose gains may have changed
    moved = Lazy({name: partial(_difference, other, canonical, name) for name in canonical})
    differences = transform_all(spec, moved, {name: _inverse(map_) for name, map_ in balancing.items()})
    for norm, readers in norms:
        _unfold_norm(norm, readers, original, differences)
    for scale, writer in scales:
        _unfold_scale(writer, original[scale.name], differences)
    return Lazy({name: partial(_sum, original, differences, name) for name in differences})


def _inverse(map_: Matrix) -> Matrix:
    return Invertible(map_.backward.transpose(-1, -2), map_.forward.transpose(-1, -2))


def _unfold_norm(norm: Norm, readers: Sequence[Linear], original: Tensors, differences: Lazy) -> None:
    """Divide what reads a norm by its gain, and take what its bias then adds from the biases of the readers."""
    gain = original[norm.gain]
    for reader in readers:
        differences.change(reader.matrix, lambda matrix: matrix / gain)
    if not norm.bias:
        return
    name = f"{norm.name}.{norm.bias}"
    differences.change(name, lambda shift: shift * gain)
    for reader, bias in zip(readers, shifted_biases(readers) or (), strict=False):
        differences.change(bias, partial(_shifted_back, differences.thunk(reader.matrix), original[name]))


def _unfold_scale(writer: Linear, factors: Tensor, differences: Lazy) -> None:
    differences.change(writer.matrix, lambda matrix: matrix / factors.unsqueeze(-1))
    if writer.bias:
        differences.change(f"{writer.name}.{writer.bias}", lambda bias: bias / factors)


def _shifted_back(matrix: Callable[[], Tensor], shift: Tensor, bias: Tensor) -> Tensor:
    return bias - matrix() @ shift


def _difference(one: Tensors, other: Tensors, name: str) -> Tensor:
    return one[name] - other[name]


def _sum(one: Tensors, other: Tensors, name: str) -> Tensor:
    return one[name] + other[name]
