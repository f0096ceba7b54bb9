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
from transfuse.network.space import pieces
from transfuse.network.spec import Linear, Norm, Op, Parameter, Spec


@dataclass(frozen=True, eq=False)
class Piece:
    """Where an opened tensor lies: entries `index` (all: None) of `axis` of a stored one, plus `offset`."""

    stored: str
    axis: int = 0
    index: Int[Tensor, " entry"] | None = None
    transposed: bool = False
    offset: float = 0.0


def unfused(spec: Spec) -> Spec:
    """The declaration without concatenations, transpositions and offsets. Opening it again changes nothing."""
    return replace(spec, ops=tuple(piece for op in spec.ops for piece, _ in _open(op)))


def columns(spec: Spec) -> dict[str, Int[Tensor, " entry"]]:
    """By the name of every linear map that was opened from a fused one: which of the module's outputs it writes."""
    fused = (op for op in spec.linears() if len(pieces(op.writes)) > 1)
    return {
        f"{op.name}[{number}]": torch.tensor(entries)
        for op in fused
        for number, (entries, _) in enumerate(pieces(op.writes))
    }


def stored_names(spec: Spec) -> dict[str, str]:
    """By the name of every opened tensor, that of the stored one it lies in."""
    return {name: piece.stored for name, piece in _pieces(spec)}


def split_fused(spec: Spec, tensors: Mapping[str, Tensor]) -> Lazy:
    """The tensors that `opened(spec)` names, from those that `spec` names."""

    def read(piece: Piece) -> Tensor:
        values = tensors[piece.stored]
        values = values.transpose(-1, -2) if piece.transposed else values
        values = values if piece.index is None else values.index_select(piece.axis, piece.index.to(values.device))
        return values + piece.offset if piece.offset else values

    return Lazy({name: partial(read, piece) for name, piece in _pieces(spec)})


def join_fused(spec: Spec, tensors: Mapping[str, Tensor]) -> Lazy:
    """The reverse of `split_fused`."""
    shapes = {name: [axis.size for axis in axes] for name, axes in spec.tensors().items()}
    lying: dict[str, list[tuple[str, Piece]]] = {}
    for name, piece in _pieces(spec):
        lying.setdefault(piece.stored, []).append((name, piece))

    def write(stored: str, parts: Sequence[tuple[str, Piece]]) -> Tensor:
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


def _pieces(spec: Spec) -> Iterator[tuple[str, Piece]]:
    for op in spec.ops:
        for _, where in _open(op):
            yield from where.items()


def _open(op: Op) -> list[tuple[Op, dict[str, Piece]]]:
    """Opened operations, and for each where its tensors lie."""
    match op:
        case Linear():
            return _open_linear(op)
        case Norm(offset=offset) if offset:
            plain = replace(op, offset=0.0)
            return [(plain, {name: Piece(name, offset=offset if name == op.gain else 0.0) for name in op.tensors()})]
        case Parameter(offset=offset) if offset:
            return [(replace(op, offset=0.0), {op.name: Piece(op.name, offset=offset)})]
    return [(op, {name: Piece(name) for name in op.tensors()})]


def _open_linear(op: Linear) -> list[tuple[Op, dict[str, Piece]]]:
    first = 1 if op.stacked else 0
    written = pieces(op.writes)
    if len(written) > 1:
        found: list[tuple[Op, dict[str, Piece]]] = []
        for number, (entries, axis) in enumerate(written):
            index = torch.tensor(entries)
            part = replace(op, name=f"{op.name}[{number}]", writes=axis, transposed=False)
            where = {part.matrix: Piece(op.matrix, first, index, op.transposed)}
            if op.bias:
                where[f"{part.name}.{op.bias}"] = Piece(f"{op.name}.{op.bias}", 0, index)
            found.append((part, where))
        return found
    read = pieces(op.reads[0]) if len(op.reads) == 1 else []
    if len(read) > 1:
        found = []
        for number, (entries, axis) in enumerate(read):
            bias = op.bias if number == 0 else None
            part = replace(op, name=f"{op.name}[{number}]", reads=(axis,), bias=bias, transposed=False)
            where = {part.matrix: Piece(op.matrix, first + 1, torch.tensor(entries), op.transposed)}
            if bias:
                where[f"{part.name}.{bias}"] = Piece(f"{op.name}.{bias}")
            found.append((part, where))
        return found
    where = {name: Piece(name, transposed=op.transposed and name == op.matrix) for name in op.tensors()}
    return [(replace(op, transposed=False), where)]
