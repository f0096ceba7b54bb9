"""Attention that several families share: which maps may act on the channels of a head."""

from dataclasses import dataclass
from functools import reduce
from operator import add

from transfuse.network.builder import Builder, Normed
from transfuse.network.space import Axis, Group, Product, Space


@dataclass(frozen=True)
class Attention:
    """The axes of an attention layer: those that Q, K and V write, and the one that the output projection reads.

    Attributes:
        head: the heads of the queries.
    """

    q: Axis
    k: Axis
    v: Axis
    context: Axis
    head: Axis


def queries_keys_values(s: Builder, p: str, reads: Axis | Normed, axes: Attention, bias: str | None = "bias") -> None:
    """Declare the three projections of attention in front of the scores, if each is a module of `p`."""
    for name, axis in (("q_proj", axes.q), ("k_proj", axes.k), ("v_proj", axes.v)):
        s.linear(f"{p}.{name}", reads, axis, bias)


def attention(s: Builder, name: object, heads: int, size: int) -> Attention:
    """Return heads without positions, so that any invertible map may act between Q and K, and behind V."""
    return attention_with_heads(s, name, s.free(f"{name}.head", heads), size)


def attention_with_heads(s: Builder, name: object, head: Space, size: int) -> Attention:
    """Return attention with a given space of heads, which other tensors or layers may share."""
    qk, v = (s.free(f"{name}.{kind}", size, Group.LINEAR, within=head) for kind in ("qk", "v"))
    return Attention(head * qk, head * ~qk, head * v, head * v, head)


def grouped_attention(
    s: Builder,
    name: object,
    heads: int,
    groups: int,
    size: int,
    rotary: int | None = None,
    *,
    interleaved: bool = False,
) -> Attention:
    """Return rotary heads that share keys and values in groups.

    Rotary positions rotate each plane of two channels by its own frequency. The remaining
    symmetries are scaled rotations of each plane, and all invertible maps of the channels without positions.

    Args:
        rotary: the number of rotary channels of a head, which come first; None: all channels.
        interleaved: whether the two channels of a plane are neighbors (GPT-J). Otherwise, they are in two halves.
    """
    group, query, v = _groups(s, name, heads, groups, size)
    rotary = size if rotary is None else rotary + rotary % 2  # transformers rounds the number of planes up
    pair = Space(f"{name}.pair", rotary // 2, Group.FIXED, within=group)
    plane = s.free(f"{name}.plane", 2, Group.COMPLEX, within=pair)
    rest = s.free(f"{name}.rest", size - rotary, Group.LINEAR, within=group)
    rotated = pair * plane if interleaved else plane * pair
    channels = rest if not rotary else rotated if rotary == size else rotated + rest
    return Attention(query * channels, group * ~channels, group * v, query * v, query)


def normed_attention(
    s: Builder,
    name: object,
    heads: int,
    groups: int,
    size: int,
    q_norm: str,
    k_norm: str,
    *,
    across_heads: bool = False,
    offset: float = 0.0,
    clipped: bool = False,
) -> Attention:
    """Return grouped rotary heads behind norms of queries and keys, and declare the gains of these norms.

    A sign for each frequency of each group remains as a symmetry. The gains of both norms can also be scaled against
    each other, frequency by frequency.

    Args:
        across_heads: whether each norm is over all heads together, with gains that differ by head (OLMo-2).
        clipped: whether queries, keys and values are clipped behind the norms, so that nothing can be scaled.
    """
    group, query, half, pair, axes = _signed_heads(s, name, heads, groups, size, clipped)
    if clipped:
        assert across_heads, "only the norms of OLMoE are followed by clipping"
        s.parameter(q_norm, query * half * pair, offset=offset, spans_heads=True)
        s.parameter(k_norm, group * half * pair, offset=offset, spans_heads=True)
    elif across_heads:
        scale = s.free(f"{name}.gain", 1, Group.LINEAR, within=pair)
        s.parameter(q_norm, query * half * pair * scale, offset=offset, spans_heads=True)
        s.parameter(k_norm, group * half * pair * ~scale, offset=offset, spans_heads=True)
    else:
        shared = s.fixed(f"{name}.frequency", size // 2)
        scale = s.free(f"{name}.gain", 1, Group.LINEAR, within=shared)
        s.parameter(q_norm, half * shared * scale, offset=offset)
        s.parameter(k_norm, half * shared * ~scale, offset=offset)
    return axes


def centered_attention(
    s: Builder, name: object, heads: int, groups: int, size: int, q_norm: str, k_norm: str
) -> Attention:
    """Return interleaved rotary heads, each behind a LayerNorm of queries and of keys with a gain per head and channel.

    A sign of each group remains as a symmetry, because such a norm subtracts the mean of the channels. The gains can be
    scaled against each other, frequency by frequency.
    """
    group, query, v = _groups(s, name, heads, groups, size)
    pair = Space(f"{name}.pair", size // 2, Group.FIXED, within=group)
    neighbor = s.fixed("neighbor", 2)
    scale = s.free(f"{name}.gain", 1, Group.LINEAR, within=pair)
    s.parameter(q_norm, query, pair * neighbor * scale)
    s.parameter(k_norm, group, pair * neighbor * ~scale)
    channels = pair * neighbor * s.free(f"{name}.sign", 1, Group.ORTHOGONAL, within=group)
    return Attention(query * channels, group * ~channels, group * v, query * v, query)


def gated_attention(
    s: Builder, name: object, heads: int, groups: int, size: int, rotary: int, q_norm: str, k_norm: str
) -> Attention:
    """Return grouped heads behind norms of queries and keys, in which Q also writes a gate for each output of a head.

    A sign of each frequency, and of each channel without positions, remains as a symmetry of a group. The gains of both
    norms, which are stored as g - 1, can be scaled against each other. A channel of the values has a gate in every
    query head, so that these channels can be permuted and scaled. (All heads together could also permute the channels
    without positions. This is not declared.)

    Args:
        rotary: the number of rotary channels of a head, which come first.
    """
    group, query, channel = _groups(s, name, heads, groups, size, Group.PERMUTATION)
    rotary += rotary % 2  # transformers rounds the number of planes up
    channels, q_gain, k_gain = _signed_channels(s, f"{name}.frequency", rotary // 2, group, s.fixed("half", 2))
    if rotary < size:
        rest = _signed_channels(s, f"{name}.rest", size - rotary, group, s.fixed("whole", 1))
        channels, q_gain, k_gain = channels + rest[0], q_gain + rest[1], k_gain + rest[2]
    s.parameter(q_norm, q_gain, offset=1.0)
    s.parameter(k_norm, k_gain, offset=1.0)
    v = channel * s.free(f"{name}.v.scale", 1, Group.LINEAR, within=channel)
    return Attention(query * (channels + channel), group * ~channels, group * v, query * v, query)


def head_major(*parts: Axis) -> Axis:
    """Return `head * (q + k + v)`, given `head * q`, `head * k` and `head * v`."""
    products = [part for part in parts if isinstance(part, Product)]
    head = products[0].factors[0]
    inner = [Product(part.factors[1:]) if len(part.factors) > 2 else part.factors[1] for part in products]
    return head * reduce(add, inner)


def _signed_channels(s: Builder, name: str, count: int, group: Space, repeats: Space) -> tuple[Axis, Axis, Axis]:
    """Return channels with a sign for each in each group, and the axes of their gains for queries and for keys.

    Args:
        repeats: outer units, in each of which all channels occur with the same sign.
    """
    channel = Space(name, count, Group.FIXED, within=group)
    sign = s.free(f"{name}.sign", 1, Group.ORTHOGONAL, within=channel)
    shared = s.fixed(f"{name}.shared", count)
    gain = s.free(f"{name}.gain", 1, Group.LINEAR, within=shared)
    return repeats * channel * sign, repeats * shared * gain, repeats * shared * ~gain


def clipped_attention(s: Builder, name: object, heads: int, groups: int, size: int) -> Attention:
    """Return grouped rotary heads whose queries, keys and values are clipped channel by channel.

    A sign for each frequency of each group remains as a symmetry, and signed permutations of the values.
    """
    return _signed_heads(s, name, heads, groups, size, clipped=True)[-1]


def _signed_heads(
    s: Builder, name: object, heads: int, groups: int, size: int, clipped: bool
) -> tuple[Space, Axis, Space, Space, Attention]:
    """Return the groups, the query heads within them, halves, frequencies and axes of heads with signs only."""
    group, query, v = _groups(s, name, heads, groups, size, Group.SIGNED if clipped else Group.LINEAR)
    half = s.fixed("half", 2)
    pair = Space(f"{name}.pair", size // 2, Group.FIXED, within=group)
    sign = s.free(f"{name}.sign", 1, Group.ORTHOGONAL, within=pair)
    rotated = half * pair * sign
    return group, query, half, pair, Attention(query * rotated, group * ~rotated, group * v, query * v, query)


def _groups(
    s: Builder, name: object, heads: int, groups: int, size: int, values: Group = Group.LINEAR
) -> tuple[Space, Axis, Space]:
    """Return the groups of heads that share keys, the query heads within them, and the channels of the values."""
    group = s.free(f"{name}.group", groups) if groups > 1 else s.fixed(f"{name}.group", 1)
    query: Axis = group
    if heads > groups:
        query = group * s.free(f"{name}.query", heads // groups, within=group)
    return group, query, s.free(f"{name}.v", size, values, within=group)
