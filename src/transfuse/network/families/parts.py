"""Parts that several families share: attention, feed-forward networks and heads."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from transfuse.network.builder import Builder, Normed
from transfuse.network.space import Axis, Group, Space

Config = Any  # each family's own configuration class
Readable = Axis | Normed


def declared_setting(config: Config, name: str) -> Any:
    """Return a field of the configuration, or None if its class does not declare it, as for notes of a user."""
    return getattr(config, name, None) if name in {field.name for field in fields(type(config))} else None


@dataclass(frozen=True)
class Attention:
    """The axes of an attention layer: those that Q, K and V write, and the one that the output projection reads."""

    q: Axis
    k: Axis
    v: Axis
    context: Axis


def attention(s: Builder, name: object, heads: int, size: int) -> Attention:
    """Return heads without positions, so that any invertible map may act between Q and K, and behind V."""
    return attention_with_heads(s, name, s.free(f"{name}.head", heads), size)


def attention_with_heads(s: Builder, name: object, head: Space, size: int) -> Attention:
    """Return attention with a given space of heads, which other tensors or layers may share."""
    qk, v = (s.free(f"{name}.{kind}", size, Group.LINEAR, within=head) for kind in ("qk", "v"))
    return Attention(head * qk, head * ~qk, head * v, head * v)


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
    rotary = size if rotary is None else rotary
    pair = Space(f"{name}.pair", rotary // 2, Group.FIXED, within=group)
    plane = s.free(f"{name}.plane", 2, Group.COMPLEX, within=pair)
    rest = s.free(f"{name}.rest", size - rotary, Group.LINEAR, within=group)
    rotated = pair * plane if interleaved else plane * pair
    channels = rest if not rotary else rotated if rotary == size else rotated + rest
    return Attention(query * channels, group * ~channels, group * v, query * v)


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
        s.parameter(q_norm, query * half * pair, offset=offset)
        s.parameter(k_norm, group * half * pair, offset=offset)
    elif across_heads:
        scale = s.free(f"{name}.gain", 1, Group.LINEAR, within=pair)
        s.parameter(q_norm, query * half * pair * scale, offset=offset)
        s.parameter(k_norm, group * half * pair * ~scale, offset=offset)
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
    return Attention(query * channels, group * ~channels, group * v, query * v)


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
    return group, query, half, pair, Attention(query * rotated, group * ~rotated, group * v, query * v)


def _groups(
    s: Builder, name: object, heads: int, groups: int, size: int, values: Group = Group.LINEAR
) -> tuple[Space, Axis, Space]:
    """Return the groups of heads that share keys, the query heads within them, and the channels of the values."""
    group = s.free(f"{name}.group", groups) if groups > 1 else s.fixed(f"{name}.group", 1)
    query: Axis = group
    if heads > groups:
        query = group * s.free(f"{name}.query", heads // groups, within=group)
    return group, query, s.free(f"{name}.v", size, values, within=group)


def feed_forward(
    s: Builder, i: object, reads: Readable, units: int, writes: Space, names: tuple[str, str], bias: str | None = "bias"
) -> None:
    """Declare two linear maps around an activation."""
    hidden = s.free(f"{i}.hidden", units)
    s.linear(names[0], reads, hidden, bias)
    s.linear(names[1], hidden, writes, bias)


def gated_feed_forward(
    s: Builder,
    i: object,
    reads: Readable,
    units: int,
    writes: Space,
    names: tuple[str, str, str],
    bias: str | None = None,
) -> None:
    """Declare `down(f(gate(x)) * up(x))`, in which a unit can also be scaled between up and down.

    Args:
        names: of gate, up and down.
    """
    hidden, up = gated_units(s, i, units)
    s.linear(names[0], reads, hidden, bias)
    s.linear(names[1], reads, up, bias)
    s.linear(names[2], up, writes, bias)


def gated_units(s: Builder, i: object, units: int, within: Space | None = None) -> tuple[Axis, Axis]:
    """Return the hidden units as the gate writes them, and as the other branch writes them."""
    hidden = s.free(f"{i}.hidden", units, within=within)
    return hidden, hidden * s.free(f"{i}.scale", 1, Group.LINEAR, within=hidden)


@dataclass(frozen=True)
class Trunk:
    """A network without its head.

    Attributes:
        vocabulary: the space that the token embedding reads.
        token: the space that the token embedding writes.
        out: the stream behind the last block.
        norm: declares the last norm, over the stream or over the input of a tied matrix.
        plain_norm: whether the last norm has no gain, so that it does not fix the basis of a tied matrix.
    """

    vocabulary: Space
    token: Space
    out: Space
    norm: Callable[[Axis], Readable]
    plain_norm: bool = False


def token_embedding(s: Builder, name: str, config: Config, width: int) -> tuple[Space, Space]:
    """Declare the embedding of tokens, and return the spaces that it reads and writes: vocabulary and token."""
    s.part = "embeddings"
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = s.free("token", width)
    s.embedding(name, vocabulary, token)
    return vocabulary, token


def normed_output(s: Builder, trunk: Trunk) -> Readable:
    """Declare the last norm, and return the output of the trunk behind it."""
    return trunk.norm(trunk.out)


def language_head(s: Builder, config: Config, trunk: Trunk, name: str = "lm_head", bias: str | None = None) -> None:
    """Declare one logit per token.

    If the matrix is tied to the embedding, its input is the dual of the space that the embedding writes.
    """
    s.part = "embeddings" if config.tie_word_embeddings else "head"
    if config.tie_word_embeddings:
        normed = trunk.norm(~trunk.token)
        s.linear(name, normed if trunk.plain_norm else ~trunk.token, trunk.vocabulary, bias)
    else:
        s.linear(name, normed_output(s, trunk), trunk.vocabulary, bias)


def masked_head(
    s: Builder,
    config: Config,
    reads: Readable,
    vocabulary: Space,
    token: Space,
    names: tuple[str, str, str],
    biases: tuple[str | None, str | None, str | None],
) -> None:
    """Declare a linear map, a norm and one logit per token.

    Args:
        token: the space that the token embedding writes.
        names: the names of the linear map, the norm and the output matrix.
        biases: the names of their biases; None: there is none.
    """
    tied = config.tie_word_embeddings
    guess = token if tied else s.free("guess", token.units)
    read = ~guess if tied else guess
    s.part = "head"
    s.linear(names[0], reads, guess, biases[0])
    s.post_norm(names[1], read, biases[1])
    s.part = "embeddings" if tied else "head"
    s.linear(names[2], read, vocabulary, biases[2])


def linear_head(s: Builder, reads: Readable, name: str, units: int, bias: str | None = "bias") -> None:
    """Declare one logit per class."""
    s.part = "head"
    s.linear(name, reads, s.fixed("class", units), bias)


def pooler(s: Builder, reads: Readable, name: str, width: int) -> Space:
    """Declare a linear map and tanh, whose units may change sign since tanh is odd."""
    pooled = s.free("pooled", width, Group.SIGNED)
    s.part = "head"
    s.linear(name, reads, pooled)
    return pooled
