"""The exact symmetries of a declared network: one space per residual stream, and norms folded into their readers.

A LayerNorm is a mean-free RMSNorm between two affine maps. Centring every writer of the stream changes nothing that a
LayerNorm sees; folding gain and bias into the linear maps behind it changes no output. What is left commutes with
every orthogonal map of the stream that fixes the all-ones vector, behind an RMSNorm with every orthogonal map
(Ainsworth et al. 2209.04836 know permutations only; the orthogonal group is used by Theus et al. 2506.22712, and
for pruning by Ashkboos et al. 2401.15024). The folded network is still a network of the same architecture.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from transfuse.base.lazy import Lazy
from transfuse.errors import SpecError
from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import Junction, LayerScale, Linear, Norm, Spec, Writer


def symmetric(spec: Spec) -> Spec:
    """The declaration with every residual stream collapsed into one space, carrying its exact group.

    Behind norms that can be folded into their readers the stream rotates; where something reads it bare, or a norm's
    gain stays (its output is the stream itself, the network's output, or meets a tied matrix), its units are only
    permuted, and behind RMSNorm also turned round.
    """
    root = _roots(spec)
    names = {
        top: "stream" if index == 0 else f"stream.{index}" for index, top in enumerate(dict.fromkeys(root.values()))
    }
    groups = {top: _group(spec, {name for name in root if root[name] == top}) for top in names}

    def collapse(space: Space) -> Axis:
        if space.name not in root:
            return space
        top = root[space.name]
        return replace(space, name=names[top], group=groups[top])

    kept = (op for op in spec.ops if not isinstance(op, Junction))
    return replace(spec, ops=tuple(op.replace(lambda axis: axis.replace(collapse)) for op in kept))


def _group(spec: Spec, stream: set[str]) -> Group:
    """The exact group of a residual stream, given the names of its spaces."""
    norms = [norm for norm in spec.norms() if not stream.isdisjoint(space.name for space in norm.space.spaces())]
    bare_readers = any(
        space.name in stream
        for linear in spec.linears()
        if linear.norm is None
        for axis in linear.reads
        for space in axis.spaces()
    )
    centred = any(norm.centers for norm in norms) or not norms
    if bare_readers or any(norm.is_output or not spec.readers(norm) for norm in norms):
        return Group.PERMUTATION if centred else Group.SIGNED
    return Group.CENTERED if centred else Group.ORTHOGONAL


def restrict(spec: Spec, group: Callable[[Space], Group]) -> Spec:
    """The same declaration with `group(space)`, a subgroup, for every free space: for ablations and controls."""

    def change(space: Space) -> Space:
        within = change(space.within) if space.within else None
        return replace(space, within=within, group=group(space) if space.free else space.group)

    return replace(spec, ops=tuple(op.replace(lambda axis: axis.replace(change)) for op in spec.ops))


def _roots(spec: Spec) -> dict[str, str]:
    """Union-find over the junctions: the first space of every joined one's component."""
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
    """Return the same function with unit gains, zero norm biases and, where it may rotate, a centred stream.

    A gain and the columns of what reads it may be scaled against each other whatever the stream's group is, so norms
    are folded into their readers in tied models, too.

    Args:
        spec: a symmetric declaration, opened.
        tensors: parameters, in float32 or better.

    Raises:
        SpecError: a norm's bias cannot be folded, as a reader has no bias and the gain has a zero.
    """
    folded = Lazy.of(tensors)
    writers = {op.name: op for op in spec.linears()}
    for op in spec.ops:
        if isinstance(op, Norm) and isinstance(op.space, Space) and spec.readers(op) and not op.is_output:
            _fold_norm(op, spec.readers(op), folded)
        if isinstance(op, LayerScale) and isinstance(op.space, Space):
            _fold_scale(op, writers[op.writer], folded)
    for op in spec.ops:
        if isinstance(op, Writer) and isinstance(op.writes, Space) and op.writes.group is Group.CENTERED:
            _center(op, folded)
    return folded


def _center(op: Writer, tensors: Lazy) -> None:
    for name, axes in op.tensors().items():
        tensors.change(name, partial(_centered, axes.index(op.writes)))


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


def _shifted_bias(matrix: Callable[[], Tensor], shift: Tensor, bias: Tensor) -> Tensor:
    return bias + matrix() @ shift


def _fold_shift(norm: Norm, readers: list[Linear], tensors: Lazy) -> None:
    """The norm's bias into its readers'; where one has none, it stays, as the gain that is taken away leaves it."""
    name = f"{norm.name}.{norm.bias}"
    gain, shift = tensors[norm.gain], tensors[name]
    if all(reader.bias for reader in readers):
        for reader in readers:
            bias, matrix = f"{reader.name}.{reader.bias}", tensors.thunk(reader.matrix)
            tensors.change(bias, partial(_shifted_bias, matrix, shift))
        tensors.change(name, torch.zeros_like)
    elif ((gain == 0) & (shift != 0)).any():
        raise SpecError(
            f"{norm.name} has a zero gain under a non-zero bias, and {readers[0].name} has no bias to fold it into;"
            " align with flow instead"
        )
    else:
        tensors.change(name, lambda shift: shift / gain.where(gain != 0, gain.new_ones(())))
