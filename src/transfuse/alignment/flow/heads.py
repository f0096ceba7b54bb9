"""Attention as the paper's flow treats it, as transformed declarations.

Where heads only stand around channels that may be mixed at will, the paper's way is one plan over all their channels.
Where they do not (rotary positions pin channels to frequencies, query heads share keys, a bias belongs to a head), such
a plan would mix what must stay apart: those heads stay nested and are matched by their exact group.
"""

from dataclasses import replace

from transfuse.network.axes import without_direction
from transfuse.network.operations import Linear
from transfuse.network.space import Axis, Dual, Group, Product, Space
from transfuse.network.spec import Spec


def without_scales(spec: Spec) -> Spec:
    """The declaration without spaces of a single unit: transport plans know no signs and no scales."""

    def change(axis: Axis) -> Axis:
        match axis:
            case Product():
                kept = tuple(change(factor) for factor in axis.factors if not _single(without_direction(factor)))
                return kept[0] if len(kept) == 1 else Product(kept)
            case Dual():
                return Dual(change(axis.axis))
        return axis

    return replace(spec, ops=tuple(op.replace(change) for op in spec.ops))


def _single(axis: Axis) -> bool:
    return isinstance(axis, Space) and axis.free and axis.units == 1 and axis.within is not None


def flat_heads(spec: Spec) -> set[str]:
    """Names of the head spaces around nothing but channels that any invertible matrix may mix."""
    axes = [without_direction(axis) for each in spec.tensors().values() for axis in each]
    inner = [axis for axis in axes if isinstance(axis, Product)]
    flat = {axis.factors[0] for axis in inner if _is_flat(axis)}
    others = {space for axis in axes if not (isinstance(axis, Product) and _is_flat(axis)) for space in axis.spaces()}
    return {space.name for space in flat - others if isinstance(space, Space)}


def _is_flat(axis: Product) -> bool:
    inner = without_direction(axis.factors[-1])
    return len(axis.factors) == 2 and isinstance(inner, Space) and inner.group is Group.LINEAR


def is_flat(axis: Axis, heads: set[str]) -> bool:
    return isinstance(axis, Product) and isinstance(axis.factors[0], Space) and axis.factors[0].name in heads


def cross_head(spec: Spec) -> Spec:
    """Attention as the paper treats it: Q, K and V each one space over the concatenated heads; V's reaches W_O."""
    flat: dict[str, Space] = {}
    heads, ops = flat_heads(spec), []
    for op in spec.ops:
        if isinstance(op, Linear) and is_flat(op.writes, heads):
            space = Space(op.name, op.writes.size)
            flat[str(op.writes)] = space
            op = replace(op, writes=space)
        elif isinstance(op, Linear):
            op = replace(op, reads=tuple(flat.get(str(axis), axis) for axis in op.reads))
        ops.append(op)
    return replace(spec, ops=tuple(ops))


def head_counts(spec: Spec) -> dict[str, int]:
    """How many heads lie in the flat space of each attention projection, by the name `cross_head` gives it."""
    found, heads = {}, flat_heads(spec)
    for op in spec.linears():
        if is_flat(op.writes, heads):
            assert isinstance(op.writes, Product)
            outer, inner = op.writes.factors[0], without_direction(op.writes.factors[-1])
            assert isinstance(inner, Space)
            found[op.name] = found[f"{inner.name}.shared"] = outer.size
    return found


def shared_queries(spec: Spec) -> Spec:
    """One map for queries and keys, which meet each other: from the evidence of both (`eq_t_map` in the paper's code).

    `spec` is as a family declares it; the result goes on to `cross_head`.
    """
    meeting: dict[str, Space] = {}
    heads, ops = flat_heads(spec), []
    for op in spec.ops:
        if isinstance(op, Linear) and is_flat(op.writes, heads):
            assert isinstance(op.writes, Product)
            inner = without_direction(op.writes.factors[-1])
            if isinstance(inner, Space) and _met_by_a_dual(spec, inner):
                shared = Space(f"{inner.name}.shared", op.writes.size)
                op = replace(op, writes=meeting.setdefault(inner.name, shared))
        ops.append(op)
    return replace(spec, ops=tuple(ops))


def _met_by_a_dual(spec: Spec, space: Space) -> bool:
    return any(
        isinstance(factor, Dual) and factor.axis == space
        for op in spec.linears()
        if isinstance(op.writes, Product)
        for factor in op.writes.factors
    )
