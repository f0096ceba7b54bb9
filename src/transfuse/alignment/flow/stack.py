"""Queries and keys as one layer of twice the size: the "joint" mode of TF-OT, as a transformed declaration.

A stacked layer is named "Q|K". Its tensors are those of Q above those of K, and its activations are concatenated.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from transfuse.activations.hook_points import STACK_SEPARATOR
from transfuse.alignment.flow.heads import flat_heads, is_flat
from transfuse.base.lazy import Lazy, Tensors
from transfuse.errors import SpecError
from transfuse.network.axes import without_direction
from transfuse.network.operations import Linear, Op
from transfuse.network.space import Dual, Product, Space
from transfuse.network.spec import Spec


def joint_queries(spec: Spec) -> Spec:
    """Stack each pair of projections that meet over the same channels along their output.

    Raises:
        SpecError: more than two projections meet over the same channels, as in DeBERTa with its own projections of
            distances.
    """
    heads = flat_heads(spec)
    flat = [op for op in spec.linears() if is_flat(op.writes, heads)]
    primal = {_channels(op): op for op in flat if not _is_dual(op)}
    ops: list[Op] = []
    for op in spec.ops:
        channels = _channels(op) if isinstance(op, Linear) else None
        if isinstance(op, Linear) and channels in primal and _is_dual(op):
            first = primal[channels]
            if first not in ops:
                raise SpecError(
                    f"queries: joint takes pairs of projections, but more than two meet in {channels}; choose separate"
                    " or shared"
                )
            space = Space(f"{channels}.joint", first.writes.size + op.writes.size)
            ops[ops.index(first)] = replace(first, name=f"{first.name}{STACK_SEPARATOR}{op.name}", writes=space)
        else:
            ops.append(op)
    return replace(spec, ops=tuple(ops))


def _channels(op: Linear) -> str | None:
    """Return the name of the innermost space that a projection writes; None if it writes a single space."""
    inner = without_direction(op.writes.factors[-1]) if isinstance(op.writes, Product) else None
    return inner.name if isinstance(inner, Space) else None


def _is_dual(op: Linear) -> bool:
    return isinstance(op.writes, Product) and isinstance(op.writes.factors[-1], Dual)


def stack(spec: Spec, tensors: Tensors) -> Lazy:
    """Return the tensors of a declaration with stacked layers, from those of a model."""

    def stacked(names: Sequence[str]) -> Tensor:
        return torch.cat([tensors[name] for name in names]) if len(names) > 1 else tensors[names[0]]

    return Lazy({name: partial(stacked, _tensor_names(name)) for name in spec.tensors()})


def unstack(tensors: Tensors) -> Lazy:
    """Return the tensors of a model, from those of a declaration with stacked layers."""

    def part(stacked: str, index: int, count: int) -> Tensor:
        return tensors[stacked].chunk(count)[index] if count > 1 else tensors[stacked]

    return Lazy(
        {
            name: partial(part, stacked, index, len(names))
            for stacked in tensors
            for names in [_tensor_names(stacked)]
            for index, name in enumerate(names)
        }
    )


def _tensor_names(stacked: str) -> list[str]:
    """Return "a.weight" and "b.weight" for "a|b.weight". Layer names may contain dots."""
    if STACK_SEPARATOR not in stacked:
        return [stacked]
    layers, _, tensor = stacked.rpartition(".")
    return [f"{layer}.{tensor}" for layer in layers.split(STACK_SEPARATOR)]
