"""The exact symmetries of a declared network: one space per residual stream, and norms folded into their readers.

A LayerNorm is a mean-free RMSNorm between two affine maps. Its output does not change if every writer of the stream is
centered, and no output of the network changes if gain and bias are folded into the linear maps behind it. The rest
commutes with every orthogonal map of the stream that fixes the all-ones vector or, behind an RMSNorm, with every
orthogonal map. The folded network has the same architecture.

Ainsworth et al. (2209.04836) use permutations only. Theus et al. (2506.22712) use the orthogonal group, as Ashkboos et
al. (2401.15024) do for pruning.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from transfuse.base.lazy import Lazy
from transfuse.errors import SpecError
from transfuse.network.operations import Junction, LayerScale, Linear, Norm, Writer
from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import Spec

MIN_FACTOR = 1e-4  # of a gain or scale, relative to the largest one, by which something may be divided


def symmetric(spec: Spec) -> Spec:
    """Return the declaration with every residual stream merged into one space, which has its exact group.

    The stream rotates behind norms without gains and behind those that can be folded into their readers. Its units are
    only permuted, and behind RMSNorm also change sign, if something reads the stream without a norm, or if the gain of
    a norm cannot be folded because the output of the norm is the stream itself, an output of the network, or the input
    of a tied matrix. Its units are only permuted if something writes the stream through a nonlinear function. A stream
    that is declared as fixed stays fixed.
    """
    roots = _roots(spec)
    names = {
        root: "stream" if index == 0 else f"stream.{index}" for index, root in enumerate(dict.fromkeys(roots.values()))
    }
    junctions = (op for op in spec.ops if isinstance(op, Junction))
    fixed = {roots[op.skip.name] for op in junctions if not op.skip.free}
    groups = {
        root: Group.FIXED if root in fixed else _group(spec, {name for name in roots if roots[name] == root})
        for root in names
    }

    def merge(space: Space) -> Axis:
        if space.name not in roots:
            return space
        root = roots[space.name]
        return replace(space, name=names[root], group=groups[root])

    ops = (op for op in spec.ops if not isinstance(op, Junction))
    return replace(spec, ops=tuple(op.replace(lambda axis: axis.replace(merge)) for op in ops))


def _group(spec: Spec, stream: set[str]) -> Group:
    """Return the exact group of a residual stream, given the names of its spaces."""
    norms = [norm for norm in spec.norms() if not stream.isdisjoint(space.name for space in norm.space.spaces())]
    read_without_norm = any(
        space.name in stream
        for linear in spec.linears()
        if linear.norm is None
        for axis in linear.reads
        for space in axis.spaces()
    )
    activated = any(
        space.name in stream for linear in spec.linears() if linear.activated for space in linear.writes.spaces()
    )
    centered = any(norm.centers for norm in norms) or not norms
    if activated:
        return Group.PERMUTATION
    if read_without_norm or any(norm.has_gain and (norm.is_output or not spec.readers(norm)) for norm in norms):
        return Group.PERMUTATION if centered else Group.SIGNED
    return Group.CENTERED if centered else Group.ORTHOGONAL


def restrict(spec: Spec, group: Callable[[Space], Group]) -> Spec:
    """Return the declaration with the subgroup `group(space)` for every free space, for ablations and controls."""

    def change(space: Space) -> Space:
        within = change(space.within) if space.within else None
        return replace(space, within=within, group=group(space) if space.free else space.group)

    return replace(spec, ops=tuple(op.replace(lambda axis: axis.replace(change)) for op in spec.ops))


def _roots(spec: Spec) -> dict[str, str]:
    """Return the first space of each space's residual stream, by union-find over the junctions."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            name = parent[name]
        return name

    for junction in (op for op in spec.ops if isinstance(op, Junction)):
        for other in (junction.branch, junction.space):
            parent[find(other.name)] = find(junction.skip.name)
    return {name: find(name) for name in parent}


def fold(spec: Spec, tensors: Mapping[str, Tensor]) -> Lazy:
    """Return the same function with unit gains, zero norm biases and, if the stream rotates, a centered stream.

    Norms are also folded in tied models, since a gain and the columns of its readers can be scaled against each other
    for any group of the stream.

    Args:
        spec: a symmetric, unfused declaration.
        tensors: parameters in float32 or better.

    Raises:
        SpecError: the bias of a norm cannot be folded, because a reader has no bias and a gain is zero or tiny.
    """
    folded = Lazy.of(tensors)
    for norm, readers in folded_norms(spec):
        _fold_norm(norm, readers, folded)
    for scale, writer in folded_scales(spec):
        _fold_scale(scale, writer, folded)
    compared = {norm.space for norm in spec.norms() if norm.keeps_mean}
    for op in spec.ops:
        if isinstance(op, Writer):
            _center(op, compared, folded)
    return folded


def folded_norms(spec: Spec) -> list[tuple[Norm, list[Linear]]]:
    """Return the norms whose gains can be moved into the maps that read them, and these maps."""
    pairs = [(op, spec.readers(op)) for op in spec.ops if isinstance(op, Norm) and _folds(op)]
    return [(norm, readers) for norm, readers in pairs if readers]


def folded_scales(spec: Spec) -> list[tuple[LayerScale, Linear]]:
    """Return the factors that can be moved into the map before them, and this map."""
    writers = {op.name: op for op in spec.linears()}
    scales = [op for op in spec.ops if isinstance(op, LayerScale) and isinstance(op.space, Space)]
    return [(scale, writers[scale.writer]) for scale in scales]


def _folds(norm: Norm) -> bool:
    return norm.has_gain and isinstance(norm.space, Space) and not norm.is_output


def _center(op: Writer, compared: Collection[object], tensors: Lazy) -> None:
    """Center what writes a rotating stream, and with an embedding the matrix that is tied to it.

    Args:
        compared: streams that keep their mean.
    """
    for name, axes in op.tensors().items():
        for position, axis in enumerate(axes):
            if isinstance(axis, Space) and axis.group is Group.CENTERED and axis not in compared:
                tensors.change(name, partial(_centered, position))


def _centered(position: int, values: Tensor) -> Tensor:
    return values - values.mean(position, keepdim=True)


def _fold_scale(scale: LayerScale, writer: Linear, tensors: Lazy) -> None:
    factors = tensors[scale.name]
    tensors.change(writer.matrix, lambda matrix: matrix * factors.unsqueeze(-1))
    if writer.bias:
        tensors.change(f"{writer.name}.{writer.bias}", lambda bias: bias * factors)
    tensors.change(scale.name, torch.ones_like)


def _fold_norm(norm: Norm, readers: list[Linear], tensors: Lazy) -> None:
    gain = tensors[norm.gain]
    if norm.bias:
        _fold_shift(norm, readers, tensors)
    for reader in readers:
        tensors.change(reader.matrix, lambda matrix: matrix * gain)
    tensors.change(norm.gain, torch.ones_like)


def is_tiny(factors: Tensor) -> Tensor:
    """Return which factors are too small beside the largest to divide by them."""
    sizes = factors.abs()
    return sizes <= MIN_FACTOR * sizes.max()


def _shifted_bias(matrix: Callable[[], Tensor], shift: Tensor, bias: Tensor) -> Tensor:
    return bias + matrix() @ shift


def shifted_biases(readers: Sequence[Linear]) -> list[str] | None:
    """Return the bias of each reader of a norm, into which its bias is folded; None if a reader has none.

    Parts of one map that read the same norm have one bias, that of the first.
    """
    owners = {op.name: f"{op.name}.{op.bias}" for op in readers if op.bias}
    biases = [owners.get(op.name) or owners.get(f"{op.name.rpartition('[')[0]}[0]") for op in readers]
    known = [bias for bias in biases if bias is not None]
    return known if len(known) == len(biases) else None


def _fold_shift(norm: Norm, readers: list[Linear], tensors: Lazy) -> None:
    """Fold the bias of a norm into the biases of its readers. If one has no bias, divide it by the gain instead."""
    name = f"{norm.name}.{norm.bias}"
    gain = tensors[norm.gain]
    shift = tensors[name]
    biases = shifted_biases(readers)
    if biases is not None:
        for reader, bias in zip(readers, biases, strict=True):
            tensors.change(bias, partial(_shifted_bias, tensors.thunk(reader.matrix), shift))
        tensors.change(name, torch.zeros_like)
    elif (is_tiny(gain) & (shift != 0)).any():
        reader = next(op for op in readers if shifted_biases([op]) is None)
        raise SpecError(
            f"tensor {norm.gain} is zero or tiny where {name} is not zero, and {reader.name} has no bias to fold that"
            " into; use --align flow"
        )
    else:
        tensors.change(name, lambda shift: shift / gain.where(gain != 0, gain.new_ones(())))
