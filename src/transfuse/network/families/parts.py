"""Parts that several families share: settings, embeddings, feed-forward networks, experts, networks without a head."""

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


def bias_if(present: object) -> str | None:
    """Return the name of a bias, or None if the configuration says that there is none."""
    return "bias" if present else None


def feed_forward(
    s: Builder,
    i: object,
    reads: Readable,
    units: int,
    writes: Space,
    names: tuple[str, str],
    bias: str | None = "bias",
    activation: str = "gelu",
) -> None:
    """Declare two linear maps around an activation, whose units may be scaled if it is a ReLU."""
    hidden = s.free(f"{i}.hidden", units)
    axis: Axis = hidden
    if activation == "relu":
        axis = hidden * s.free(f"{i}.scale", 1, Group.POSITIVE, within=hidden)
    s.linear(names[0], reads, axis, bias)
    s.linear(names[1], axis, writes, bias)


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


def experts(s: Builder, i: int, block: str, reads: Readable, writes: Space, count: int, units: int) -> None:
    """Declare experts, each a SwiGLU, and the router that chooses among them. They may be permuted."""
    expert = s.free(f"{i}.expert", count)
    gate, up = gated_units(s, i, units, within=expert)
    s.linear(f"{block}.mlp.gate", reads, expert, bias=None)
    s.linear(f"{block}.mlp.experts.gate_up_proj", reads, gate + up, bias=None, weight="", stacked=expert)
    s.linear(f"{block}.mlp.experts.down_proj", up, writes, bias=None, weight="", stacked=expert)


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


def token_embedding(s: Builder, name: str, config: Config, width: int, *, scaled: bool = False) -> tuple[Space, Space]:
    """Declare the embedding of tokens, and return the spaces that it reads and writes: vocabulary and token."""
    s.part = "embeddings"
    vocabulary = s.fixed("vocabulary", config.vocab_size)
    token = s.free("token", width)
    s.embedding(name, vocabulary, token, scaled=scaled)
    return vocabulary, token
