"""What the declarations of several families share: attention, feed-forward networks, heads on top."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from transfuse.network.builder import Builder, Normed
from transfuse.network.space import Axis, Group, Space

Config = Any  # each family's own configuration class
Readable = Axis | Normed


def declared_setting(config: Config, name: str) -> Any:
    """Return a setting; None where the class does not declare it, so that a note in config.json means nothing."""
    return getattr(config, name, None) if name in {field.name for field in fields(type(config))} else None


@dataclass(frozen=True)
class Attention:
    """The axes of one attention layer: what Q, K and V write, and what the output projection reads."""

    q: Axis
    k: Axis
    v: Axis
    context: Axis


def attention(s: Builder, name: object, heads: int, size: int) -> Attention:
    """Heads whose channels meet nothing but each other: any invertible map between Q and K, and behind V."""
    return attention_with_heads(s, name, s.free(f"{name}.head", heads), size)


def attention_with_heads(s: Builder, name: object, head: Space, size: int) -> Attention:
    """The same of heads that other tensors know too, or other layers."""
    qk, v = (s.free(f"{name}.{kind}", size, Group.LINEAR, within=head) for kind in ("qk", "v"))
    return Attention(head * qk, head * ~qk, head * v, head * v)


def grouped_attention(
    s: Builder, name: object, heads: int, groups: int, size: int, rotary: int | None = None
) -> Attention:
    """Rotary heads that share keys and values in groups.

    Args:
        rotary: how many channels of a head are turned by position, in two halves; None: all. They pin each plane of two
            channels to its frequency and leave one scaled rotation of it; the others may be mixed at will.
    """
    group, query, v = _groups(s, name, heads, groups, size)
    rotary = size if rotary is None else rotary
    pair = Space(f"{name}.pair", rotary // 2, Group.FIXED, within=group)
    turned: Axis = s.free(f"{name}.plane", 2, Group.COMPLEX, within=pair) * pair
    if rotary < size:
        turned = turned + s.free(f"{name}.rest", size - rotary, Group.LINEAR, within=group)
    return Attention(query * turned, group * ~turned, group * v, query * v)


def normed_attention(
    s: Builder,
    name: object,
    heads: int,
    groups: int,
    size: int,
    q_norm: str,
    k_norm: str,
    *,
    whole: bool = False,
    offset: float = 0.0,
) -> Attention:
    """The same behind norms of queries and keys, which leave less: a sign for each frequency of each group.

    The norms' gains may still be scaled against each other, frequency by frequency.

    Args:
        whole: each norm is over all heads together and its gains differ by head (OLMo-2).
    """
    group, query, v = _groups(s, name, heads, groups, size)
    half = s.fixed("half", 2)
    pair = Space(f"{name}.pair", size // 2, Group.FIXED, within=group)
    sign = s.free(f"{name}.sign", 1, Group.ORTHOGONAL, within=pair)
    turned = half * pair * sign
    if whole:
        scale = s.free(f"{name}.gain", 1, Group.LINEAR, within=pair)
        s.parameter(q_norm, query * half * pair * scale, offset=offset)
        s.parameter(k_norm, group * half * pair * ~scale, offset=offset)
    else:
        shared = s.fixed(f"{name}.frequency", size // 2)
        scale = s.free(f"{name}.gain", 1, Group.LINEAR, within=shared)
        s.parameter(q_norm, half * shared * scale, offset=offset)
        s.parameter(k_norm, half * shared * ~scale, offset=offset)
    return Attention(query * turned, group * ~turned, group * v, query * v)


def _groups(s: Builder, name: object, heads: int, groups: int, size: int) -> tuple[Space, Axis, Space]:
    """Groups that share keys, the queries' heads in them, and the channels of the values."""
    group = s.free(f"{name}.group", groups)
    query: Axis = group
    if heads > groups:
        query = group * s.free(f"{name}.query", heads // groups, within=group)
    return group, query, s.free(f"{name}.v", size, Group.LINEAR, within=group)


def feed_forward(
    s: Builder, i: object, reads: Readable, units: int, writes: Space, names: tuple[str, str], bias: str | None = "bias"
) -> None:
    """Two linear maps around an activation."""
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
    """`down(f(gate(x)) * up(x))`: a unit may also be scaled between up and down. Names: gate, up, down."""
    hidden, up = gated_units(s, i, units)
    s.linear(names[0], reads, hidden, bias)
    s.linear(names[1], reads, up, bias)
    s.linear(names[2], up, writes, bias)


def gated_units(s: Builder, i: object, units: int, within: Space | None = None) -> tuple[Axis, Axis]:
    """The hidden units as the gate writes them, and as the other branch does."""
    hidden = s.free(f"{i}.hidden", units, within=within)
    return hidden, hidden * s.free(f"{i}.scale", 1, Group.LINEAR, within=hidden)


@dataclass(frozen=True)
class Trunk:
    """A network without its head.

    Attributes:
        vocabulary: what the word embedding reads; `word`: what it writes.
        out: the stream behind the last block.
        norm: declares the last norm, over the stream or over what a tied matrix reads.
    """

    vocabulary: Space
    word: Space
    out: Space
    norm: Callable[[Axis], Readable]


def normed_output(s: Builder, trunk: Trunk) -> Readable:
    """The trunk's output, as a head reads it."""
    return trunk.norm(trunk.out)


def language_head(s: Builder, config: Config, trunk: Trunk, name: str = "lm_head") -> None:
    """One score per word. Tied to the embedding, the matrix writes words; what meets it on the way out reads them."""
    s.part = "embeddings" if config.tie_word_embeddings else "head"
    if config.tie_word_embeddings:
        trunk.norm(~trunk.word)
        s.linear(name, ~trunk.word, trunk.vocabulary, bias=None)
    else:
        s.linear(name, normed_output(s, trunk), trunk.vocabulary, bias=None)


def masked_head(
    s: Builder,
    config: Config,
    reads: Readable,
    vocabulary: Space,
    word: Space,
    names: tuple[str, str, str],
    biases: tuple[str | None, str | None, str | None],
) -> None:
    """A linear map, a norm and one score per word. Tied, one matrix writes words; what meets it then reads them.

    Args:
        names: of the three; `biases`: of each, if it has one.
    """
    tied = config.tie_word_embeddings
    guess = word if tied else s.free("guess", word.units)
    read = ~guess if tied else guess
    s.part = "head"
    s.linear(names[0], reads, guess, biases[0])
    s.post_norm(names[1], read, biases[1])
    s.part = "embeddings" if tied else "head"
    s.linear(names[2], read, vocabulary, biases[2])


def linear_head(s: Builder, reads: Readable, name: str, units: int, bias: str | None = "bias") -> None:
    """One score per class."""
    s.part = "head"
    s.linear(name, reads, s.fixed("class", units), bias)


def pooler(s: Builder, reads: Readable, name: str, width: int) -> Space:
    """A linear map and tanh, an odd function: units may change sign."""
    pooled = s.free("pooled", width, Group.SIGNED)
    s.part = "head"
    s.linear(name, reads, pooled)
    return pooled
