"""Queries and keys as one layer of twice the size: the paper's "joint" mode, as a transformed declaration.

A stacked layer is called "Q|K": its tensors are those of Q above those of K, its activations theirs side by side.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from transfuse.activations.hook_points import STACK_SEPARATOR
from transfuse.alignment.flow.heads import flat_heads, is_flat
from transfuse.base.lazy import Lazy, Tensors
from transfuse.network.axes import without_direction
from transfuse.network.operations import Linear, Op
from transfuse.network.space import Dual, Product, Space
from transfuse.network.spec import Spec


def joint_queries(spec: Spec) -> Spec:
    """Each pair of projections that meet over the same channels, stacked along their output."""
    heads = flat_heads(spec)
    flat = [op for op in spec.linears() if is_flat(op.writes, heads)]
    written = {_channels(op): op for op in flat if not _is_dual(op)}
    ops: list[Op] = []
    for op in spec.ops:
        channels = _channels(op) if isinstance(op, Linear) else None
        if isinstance(op, Linear) and channels in written and _is_dual(op):
            first = written[channels]
            space = Space(f"{channels}.joint", first.writes.size + op.writes.size)
            ops[ops.index(first)] = replace(first, name=f"{first.name}{STACK_SEPARATOR}{op.name}", writes=space)
        else:
            ops.append(op)
    return replace(spec, ops=tuple(ops))


def _channels(op: Linear) -> str | None:
    """The name of the innermost space that a projection writes, if it is nested."""
    inner = without_direction(op.writes.factors[-1]) if isinstance(op.writes, Product) else None
    return inner.name if isinstance(inner, Space) else None


def _is_dual(op: Linear) -> bool:
    return isinstance(op.writes, Product) and isinstance(op.writes.factors[-1], Dual)


def stack(spec: Spec, tensors: Tensors) -> Lazy:
    """The tensors that a declaration with stacked layers names."""

    def stacked(parts: Sequence[str]) -> Tensor:
        return torch.cat([tensors[part] for part in parts]) if len(parts) > 1 else tensors[parts[0]]

    return Lazy({name: partial(stacked, _parts(name)) for name in spec.tensors()})


def unstack(tensors: Tensors) -> Lazy:
    """The tensors of the layers themselves."""

    def one(name: str, place: int, count: int) -> Tensor:
        return tensors[name].chunk(count)[place] if count > 1 else tensors[name]

    return Lazy(
        {
            part: partial(one, name, place, len(parts))
            for name in tensors
            for parts in [_parts(name)]
            for place, part in enumerate(parts)
        }
    )


def _parts(name: str) -> list[str]:
    """ "a|b.weight" as "a.weight" and "b.weight"; dots inside the names of modules stay."""
    if STACK_SEPARATOR not in name:
        return [name]
    stem, _, tensor = name.rpartition(".")
    return [f"{part}.{tensor}" for part in stem.split(STACK_SEPARATOR)]
