"""Fused tensors split into one tensor per product of spaces, and joined again.

A fused projection (`head * q + head * k + head * v`, `head * (q + k + v)`) becomes one linear map per term, called
`NAME[0]`, `NAME[1]`, ... A transposed matrix is transposed back, and a gain stored as g - 1 becomes g. `unfused` does
this to a declaration, `split_fused` and `join_fused` to tensors. No other code depends on how tensors are stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from transfuse.base.lazy import Lazy
from transfuse.errors import SpecError
from transfuse.network.axes import Term, axis_terms
from transfuse.network.operations import Linear, Norm, Op, Packed, Parameter
from transfuse.network.spec import Spec


@dataclass(frozen=True, eq=False)
class Slice:
    """The location of an unfused tensor: entries `index` (None: all) of one axis of a stored tensor, plus `offset`."""

    stored: str
    axis: int = 0
    index: Int[Tensor, " entry"] | None = None
    transposed: bool = False
    offset: float = 0.0


def unfused(spec: Spec) -> Spec:
    """Return the declaration without concatenations, transpositions and offsets. Applying it twice changes nothing."""
    return replace(spec, ops=tuple(part for op in spec.ops for part, _ in _unfuse(op)))


def fused_outputs(spec: Spec) -> dict[str, Int[Tensor, " entry"]]:
    """Return the outputs of a fused linear map that each of its unfused parts writes, by the name of the part."""
    fused = (op for op in spec.linears() if len(axis_terms(op.writes)) > 1)
    return {
        f"{op.name}[{number}]": torch.tensor(entries)
        for op in fused
        for number, (entries, _) in enumerate(axis_terms(op.writes))
    }


def stored_names(spec: Spec) -> dict[str, str]:
    """Return the name of the stored tensor that contains each unfused tensor, by the name of the latter."""
    return {name: location.stored for name, location in _slices(spec)}


def joined_names(spec: Spec) -> set[str]:
    """Return the names of the stored tensors that `join_fused` has to compute. It returns all others as they are."""
    return {
        location.stored
        for _, location in _slices(spec)
        if location.index is not None or location.transposed or location.offset
    }


def split_fused(spec: Spec, tensors: Mapping[str, Tensor]) -> Lazy:
    """Return the tensors that `unfused(spec)` declares, from those that `spec` declares."""

    def read(location: Slice) -> Tensor:
        values = tensors[location.stored]
        if location.transposed:
            values = values.transpose(-1, -2)
        if location.index is not None:
            values = values.index_select(location.axis, location.index.to(values.device))
        return values + location.offset if location.offset else values

    return Lazy({name: partial(read, location) for name, location in _slices(spec)})


def join_fused(spec: Spec, tensors: Mapping[str, Tensor]) -> Lazy:
    """Invert `split_fused`.

    Raises:
        SpecError: when a tensor is accessed, if it is missing or has another shape than its declaration.
    """
    shapes, part_shapes = (
        {name: [axis.size for axis in axes] for name, axes in each.tensors().items()} for each in (spec, unfused(spec))
    )
    parts_by_name: dict[str, list[tuple[str, Slice]]] = {}
    for name, location in _slices(spec):
        parts_by_name.setdefault(location.stored, []).append((name, location))

    def write(stored: str, parts: Sequence[tuple[str, Slice]]) -> Tensor:
        transposed = parts[0][1].transposed
        joined = None
        for name, location in parts:
            values = _checked(name, tensors, part_shapes[name])
            values = values - location.offset if location.offset else values
            if location.index is None:
                joined = values
                continue
            if joined is None:
                shape = shapes[stored]
                joined = values.new_empty([*shape[:-2], *shape[:-3:-1]] if transposed else shape)
            joined.index_copy_(location.axis, location.index.to(values.device), values)
        assert joined is not None
        return joined.transpose(-1, -2).contiguous() if transposed else joined

    return Lazy({stored: partial(write, stored, parts) for stored, parts in parts_by_name.items()})


def _checked(name: str, tensors: Mapping[str, Tensor], shape: Sequence[int]) -> Tensor:
    """Return a tensor that is to be stored."""
    advice = "give each tensor of the model, in its shape"
    if name not in tensors:
        raise SpecError(f"{name}: this tensor is missing; {advice}")
    values = tensors[name]
    if tuple(values.shape) != tuple(shape):
        raise SpecError(f"{name}: has shape {tuple(values.shape)} instead of {tuple(shape)}; {advice}")
    return values


def _slices(spec: Spec) -> Iterator[tuple[str, Slice]]:
    """Yield the name and the location of every unfused tensor."""
    for op in spec.ops:
        for _, locations in _unfuse(op):
            yield from locations.items()


def _unfuse(op: Op) -> list[tuple[Op, dict[str, Slice]]]:
    """Return the operations that an operation is split into, each with the locations of its tensors."""
    match op:
        case Linear():
            return _unfuse_linear(op)
        case Packed():
            return _unpack(op)
        case Norm(offset=offset) if offset:
            locations = {name: Slice(name, offset=offset if name == op.gain else 0.0) for name in op.tensors()}
            return [(replace(op, offset=0.0), locations)]
        case Parameter(axes=(axis,)) if len(terms := axis_terms(axis)) > 1:
            return _split_parameter(op, terms)
        case Parameter(offset=offset) if offset:
            return [(replace(op, offset=0.0), {op.name: Slice(op.name, offset=offset)})]
    return [(op, {name: Slice(name) for name in op.tensors()})]


def _unpack(op: Packed) -> list[tuple[Op, dict[str, Slice]]]:
    """Split a tensor into its linear maps, by rows."""
    split: list[tuple[Op, dict[str, Slice]]] = []
    start = 0
    for linear in op.maps:
        index = torch.arange(start, start + linear.writes.size)
        locations = {linear.matrix: Slice(op.matrix, 0, index)}
        locations[f"{linear.name}.{linear.bias}"] = Slice(f"{op.name}.{op.bias}", 0, index)
        split.append((linear, locations))
        start += linear.writes.size
    return split


def _split_parameter(op: Parameter, terms: Sequence[Term]) -> list[tuple[Op, dict[str, Slice]]]:
    """Split a parameter with a single axis by the terms of this axis."""
    parts = [
        replace(op, name=f"{op.name}[{number}]", axes=(term,), offset=0.0) for number, (_, term) in enumerate(terms)
    ]
    slices = [Slice(op.name, 0, torch.tensor(entries), offset=op.offset) for entries, _ in terms]
    return [(part, {part.name: location}) for part, location in zip(parts, slices, strict=True)]


def _unfuse_linear(op: Linear) -> list[tuple[Op, dict[str, Slice]]]:
    written = axis_terms(op.writes)
    read = axis_terms(op.reads[0]) if len(op.reads) == 1 else []
    if len(written) > 1:
        return _split_outputs(op, written)
    if len(read) > 1:
        return _split_inputs(op, read)
    locations = {name: Slice(name, transposed=op.transposed and name == op.matrix) for name in op.tensors()}
    return [(replace(op, transposed=False), locations)]


def _split_outputs(op: Linear, written: Sequence[Term]) -> list[tuple[Op, dict[str, Slice]]]:
    """Split a linear map by the terms that it writes; the bias is split, too."""
    axis = 1 if op.stacked else 0
    split: list[tuple[Op, dict[str, Slice]]] = []
    for number, (entries, term) in enumerate(written):
        index = torch.tensor(entries)
        part = replace(op, name=f"{op.name}[{number}]", writes=term, transposed=False)
        locations = {part.matrix: Slice(op.matrix, axis, index, op.transposed)}
        if op.bias:
            locations[f"{part.name}.{op.bias}"] = Slice(f"{op.name}.{op.bias}", axis, index)
        split.append((part, locations))
    return split


def _split_inputs(op: Linear, read: Sequence[Term]) -> list[tuple[Op, dict[str, Slice]]]:
    """Split a linear map by the terms that it reads; the first part has the bias."""
    axis = 2 if op.stacked else 1
    split: list[tuple[Op, dict[str, Slice]]] = []
    for number, (entries, term) in enumerate(read):
        bias = op.bias if number == 0 else None
        part = replace(op, name=f"{op.name}[{number}]", reads=(term,), bias=bias, transposed=False)
        locations = {part.matrix: Slice(op.matrix, axis, torch.tensor(entries), op.transposed)}
        if bias:
            locations[f"{part.name}.{bias}"] = Slice(f"{op.name}.{bias}")
        split.append((part, locations))
    return split
