"""Attention in the transport-map flow, as transformed declarations.

If heads only enclose channels that may be mixed freely, the paper uses one plan over the channels of all heads. In
other models such a plan would mix what must stay apart: rotary positions tie channels to frequencies, query heads share
keys, or a bias belongs to a head. Their heads stay nested and are matched by their exact groups.
"""

from dataclasses import replace

from transfuse.network.axes import without_direction
from transfuse.network.operations import Linear, Op
from transfuse.network.space import Axis, Dual, Group, Product, Space
from transfuse.network.spec import Spec


def without_scales(spec: Spec) -> Spec:
    """Return the declaration without nested spaces of a single unit, because plans have no signs and no scales."""

    def change(axis: Axis) -> Axis:
        match axis:
            case Product():
                factors = tuple(change(factor) for factor in axis.factors if not _is_scale(without_direction(factor)))
                return factors[0] if len(factors) == 1 else Product(factors)
            case Dual():
                return Dual(change(axis.axis))
        return axis

    return replace(spec, ops=tuple(op.replace(change) for op in spec.ops))


def _is_scale(axis: Axis) -> bool:
    return isinstance(axis, Space) and axis.free and axis.units == 1 and axis.within is not None


def flat_heads(spec: Spec) -> set[str]:
    """Return the names of the head spaces that only enclose channels which any invertible matrix may mix."""
    axes = [without_direction(axis) for tensor_axes in spec.tensors().values() for axis in tensor_axes]
    products = [axis for axis in axes if isinstance(axis, Product)]
    flat = {axis.factors[0] for axis in products if _has_free_channels(axis)}  # fixed heads are never mixed
    others = {
        space
        for axis in axes
        if not (isinstance(axis, Product) and _has_free_channels(axis))
        for space in axis.spaces()
    }
    return {space.name for space in flat - others if isinstance(space, Space) and space.free}


def _has_free_channels(axis: Product) -> bool:
    channels = without_direction(axis.factors[-1])
    return len(axis.factors) == 2 and isinstance(channels, Space) and channels.group is Group.LINEAR


def is_flat(axis: Axis, heads: set[str]) -> bool:
    """Return whether an axis is a product of one of these head spaces and channels."""
    return isinstance(axis, Product) and isinstance(axis.factors[0], Space) and axis.factors[0].name in heads


def cross_head(spec: Spec) -> Spec:
    """Return the declaration in which Q, K and V each write one space over all heads; that of V is read by W_O."""
    heads = flat_heads(spec)
    flat: dict[str, Space] = {}
    ops: list[Op] = []
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
    """Return the number of heads in the flat space of each attention projection, by its name in `cross_head`."""
    heads = flat_heads(spec)
    counts: dict[str, int] = {}
    for op in spec.linears():
        if is_flat(op.writes, heads):
            assert isinstance(op.writes, Product)
            outer = op.writes.factors[0]
            channels = without_direction(op.writes.factors[-1])
            assert isinstance(channels, Space)
            counts[op.name] = counts[f"{channels.name}.shared"] = outer.size
    return counts


def query_factors(own: Spec, other: Spec) -> dict[str, float]:
    """Return by what to multiply queries so that heads of another size, which flat maps fill, give the same scores.

    A score is a sum over the channels of a head, divided by the root of their number.

    Args:
        own: the unfused declaration of the model that the tensors come from.
        other: the declaration of the other model, with the same names.
    """
    spec = without_scales(own)
    heads = flat_heads(spec)
    sizes = {op.name: op.writes.factors[-1].size for op in other.linears() if isinstance(op.writes, Product)}
    factors: dict[str, float] = {}
    for op in spec.linears():
        if is_flat(op.writes, heads):
            assert isinstance(op.writes, Product)
            channels = op.writes.factors[-1]
            if isinstance(channels, Space) and spec.has_dual(channels) and channels.size != sizes[op.name]:
                factors |= dict.fromkeys(op.tensors(), (channels.size / sizes[op.name]) ** 0.5)
    return factors


def shared_queries(spec: Spec) -> Spec:
    """Return the declaration in which queries and keys, which meet each other, write one space (`eq_t_map` in TF-OT).

    Args:
        spec: the declaration before `cross_head`.
    """
    heads = flat_heads(spec)
    shared: dict[str, Space] = {}
    ops: list[Op] = []
    for op in spec.ops:
        if isinstance(op, Linear) and is_flat(op.writes, heads):
            assert isinstance(op.writes, Product)
            channels = without_direction(op.writes.factors[-1])
            if isinstance(channels, Space) and spec.has_dual(channels):
                space = Space(f"{channels.name}.shared", op.writes.size)
                op = replace(op, writes=shared.setdefault(channels.name, space))
        ops.append(op)
    return replace(spec, ops=tuple(ops))
