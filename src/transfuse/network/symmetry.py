"""The exact symmetries of a declared network: one space per residual stream, and norms folded into their readers.

A LayerNorm is a mean-free RMSNorm between two affine maps. Centring every writer of the stream changes nothing that a
LayerNorm sees; folding gain and bias into the linear maps behind it changes no output. What is left commutes with
every orthogonal map of the stream that fixes the all-ones vector (Ainsworth et al. 2209.04836 know permutations only;
the orthogonal group is used by Theus et al. 2506.22712). The folded network is still a plain LayerNorm network.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from transfuse.errors import SpecError
from transfuse.network.space import Axis, Dual, Group, Space
from transfuse.network.spec import Junction, Linear, Norm, Spec, Writer


def symmetric(spec: Spec) -> Spec:
    """The declaration with every residual stream collapsed into one space, carrying its exact group.

    The group is orthogonal (fixing the all-ones vector) where every reader stands behind a norm, else permutations.
    """
    root = _components(spec)
    exposed = {
        root[space.name]
        for linear in spec.linears() if linear.norm is None
        for axis in linear.reads for space in axis.spaces() if space.name in root
    }  # fmt: skip
    names = {
        top: "stream" if index == 0 else f"stream.{index}" for index, top in enumerate(dict.fromkeys(root.values()))
    }

    def collapse(space: Space) -> Axis:
        if space.name not in root:
            return space
        top = root[space.name]
        group = Group.PERMUTATION if top in exposed else Group.CENTRED
        return replace(space, name=names[top], group=group)

    kept = (op for op in spec.ops if not isinstance(op, Junction))
    return replace(spec, ops=tuple(op.replace(lambda axis: axis.replace(collapse)) for op in kept))


def restrict(spec: Spec, group: Callable[[Space], Group]) -> Spec:
    """The same declaration with `group(space)`, a subgroup, for every free space: for ablations and controls."""

    def change(space: Space) -> Space:
        within = change(space.within) if space.within else None
        return replace(space, within=within, group=group(space)) if space.free else space

    return replace(spec, ops=tuple(op.replace(lambda axis: axis.replace(change)) for op in spec.ops))


def _components(spec: Spec) -> dict[str, str]:
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


def fold(spec: Spec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same function with unit gains, zero norm biases and a centred stream, wherever the stream may rotate.

    Args:
        spec: a symmetric declaration.
        tensors: parameters, in float32 or better.

    Raises:
        SpecError: a norm's bias cannot be folded, as a reader has no bias and the gain has a zero.
    """
    folded = dict(tensors)
    for norm in spec.norms():
        if _rotates(norm.space):
            _fold_norm(norm, spec.readers(norm), folded)
    for op in spec.ops:
        if isinstance(op, Writer) and _rotates(op.writes):
            for name, axes in op.tensors().items():
                position = axes.index(op.writes)
                folded[name] = folded[name] - folded[name].mean(position, keepdim=True)
    return folded


def _rotates(axis: Axis) -> bool:
    return isinstance(axis, Space) and axis.group is Group.CENTRED and not isinstance(axis, Dual)


def _fold_norm(norm: Norm, readers: list[Linear], tensors: dict[str, Tensor]) -> None:
    gain, shift = tensors[f"{norm.name}.weight"], tensors[f"{norm.name}.bias"]
    if all(reader.bias for reader in readers):
        for reader in readers:
            bias = f"{reader.name}.{reader.bias}"
            tensors[bias] = tensors[bias] + tensors[f"{reader.name}.weight"] @ shift
        shift = shift.new_zeros(shift.shape)
    elif ((gain == 0) & (shift != 0)).any():
        raise SpecError(
            f"{norm.name} has a zero gain under a non-zero bias, and {readers[0].name} has no bias to fold it into;"
            " align with flow instead"
        )
    else:
        shift = shift / gain.where(gain != 0, gain.new_ones(()))
    for reader in readers:
        tensors[f"{reader.name}.weight"] = tensors[f"{reader.name}.weight"] * gain
    tensors[f"{norm.name}.weight"], tensors[f"{norm.name}.bias"] = gain.new_ones(gain.shape), shift
