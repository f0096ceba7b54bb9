"""Between tensors as they are stored and tensors as the mathematics wants them: one product of spaces per axis.

A fused projection (`head * q + head * k + head * v`, `head * (q + k + v)`) becomes one linear map per term, called
`NAME[0]`, `NAME[1]`, ...; a transposed matrix is turned round; a gain stored as g - 1 becomes g. `unfused` does this to
a declaration, `split_fused` and `join_fused` to the tensors; no other code knows how tensors are stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from transfuse.base.lazy import Lazy
from transfuse.network.space import axis_terms
from transfuse.network.spec import Linear, Norm, Op, Parameter, Spec


@dataclass(frozen=True, eq=False)
class Slice:
    """Where an opened tensor lies: entries `index` (all: None) of `axis` of a stored one, plus `offset`."""

    stored: str
    axis: int = 0
    index: Int[Tensor, " entry"] | None = None
    transposed: bool = False
    offset: float = 0.0


def unfused(spec: Spec) -> Spec:
    """The declaration without concatenations, transpositions and offsets. Opening it again changes nothing."""
    return replace(spec, ops=tuple(piece for op in spec.ops for piece, _ in _unfuse(op)))


def fused_outputs(spec: Spec) -> dict[str, Int[Tensor, " entry"]]:
    """By the name of every linear map that was opened from a fused one: which of the module's outputs it writes."""
    fused = (op for op in spec.linears() if len(axis_terms(op.writes)) > 1)
    return {
        f"{op.name}[{number}]": torch.tensor(entries)
        for op in fused
        for number, (entries, _) in enumerate(axis_terms(op.writes))
    }


def stored_names(spec: Spec) -> dict[str, str]:
    """By the name of every opened tensor, that of the stored one it lies in."""
    return {name: piece.stored for name, piece in _slices(spec)}


def split_fused(spec: Spec, tensors: Mapping[str, Tensor]) -> Lazy:
    """The tensors that `opened(spec)` names, from those that `spec` names."""

    def read(piece: Slice) -> Tensor:
        values = tensors[piece.stored]
        values = values.transpose(-1, -2) if piece.transposed else values
        values = values if piece.index is None else values.index_select(piece.axis, piece.index.to(values.device))
        return values + piece.offset if piece.offset else values

    return Lazy({name: partial(read, piece) for name, piece in _slices(spec)})


def join_fused(spec: Spec, tensors: Mapping[str, Tensor]) -> Lazy:
    """The reverse of `split_fused`."""
    shapes = {name: [axis.size for axis in axes] for name, axes in spec.tensors().items()}
    lying: dict[str, list[tuple[str, Slice]]] = {}
    for name, piece in _slices(spec):
        lying.setdefault(piece.stored, []).append((name, piece))

    def write(stored: str, parts: Sequence[tuple[str, Slice]]) -> Tensor:
        _, first = parts[0]
        whole = None
        for name, piece in parts:
            values = tensors[name] - piece.offset if piece.offset else tensors[name]
            if piece.index is None:
                whole = values
                continue
            if whole is None:
                whole = values.new_empty(shapes[stored][::-1] if piece.transposed else shapes[stored])
            whole.index_copy_(piece.axis, piece.index.to(values.device), values)
        assert whole is not None
        return whole.transpose(-1, -2).contiguous() if first.transposed else whole

    return Lazy({stored: partial(write, stored, parts) for stored, parts in lying.items()})


def _slices(spec: Spec) -> Iterator[tuple[str, Slice]]:
    for op in spec.ops:
        for _, where in _unfuse(op):
            yield from where.items()


def _unfuse(op: Op) -> list[tuple[Op, dict[str, Slice]]]:
    """Opened operations, and for each where its tensors lie."""
    match op:
        case Linear():
            return _unfuse_linear(op)
        case Norm(offset=offset) if offset:
            plain = replace(op, offset=0.0)
            return [(plain, {name: Slice(name, offset=offset if name == op.gain else 0.0) for name in op.tensors()})]
        case Parameter(offset=offset) if offset:
            return [(replace(op, offset=0.0), {op.name: Slice(op.name, offset=offset)})]
    return [(op, {name: Slice(name) for name in op.tensors()})]


def _unfuse_linear(op: Linear) -> list[tuple[Op, dict[str, Slice]]]:
    first = 1 if op.stacked else 0
    written = axis_terms(op.writes)
    if len(written) > 1:
        found: list[tuple[Op, dict[str, Slice]]] = []
        for number, (entries, axis) in enumerate(written):
            index = torch.tensor(entries)
            part = replace(op, name=f"{op.name}[{number}]", writes=axis, transposed=False)
            where = {part.matrix: Slice(op.matrix, first, index, op.transposed)}
            if op.bias:
                where[f"{part.name}.{op.bias}"] = Slice(f"{op.name}.{op.bias}", 0, index)
            found.append((part, where))
        return found
    read = axis_terms(op.reads[0]) if len(op.reads) == 1 else []
    if len(read) > 1:
        found = []
        for number, (entries, axis) in enumerate(read):
            bias = op.bias if number == 0 else None
            part = replace(op, name=f"{op.name}[{number}]", reads=(axis,), bias=bias, transposed=False)
            where = {part.matrix: Slice(op.matrix, first + 1, torch.tensor(entries), op.transposed)}
            if bias:
                where[f"{part.name}.{bias}"] = Slice(f"{op.name}.{bias}")
            found.append((part, where))
        return found
    where = {name: Slice(name, transposed=op.transposed and name == op.matrix) for name in op.tensors()}
    return [(replace(op, transposed=False), where)]
