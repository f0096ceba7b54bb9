"""Blocks with a norm in front of both branches, of encoders of images and of texts."""

from dataclasses import dataclass

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config, feed_forward
from transfuse.network.families.parts_attention import attention, queries_keys_values
from transfuse.network.space import Space


@dataclass(frozen=True)
class PreNormNames:
    """The names of the modules of a block: both norms, attention, and the output projection within it."""

    norms: tuple[str, str]
    attention: str
    output: str


@dataclass(frozen=True)
class BlockSizes:
    """The number of blocks, and of heads and hidden units of each."""

    depth: int
    heads: int
    hidden: int


def block_sizes(config: Config) -> BlockSizes:
    """Return the sizes in a configuration."""
    return BlockSizes(config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)


def pre_norm_blocks(
    s: Builder,
    p: str,
    x: Space,
    sizes: BlockSizes,
    names: PreNormNames,
    bias: str | None = "bias",
    label: str = "",
    *,
    classifies: bool = False,
) -> Space:
    """Declare all blocks, and return the stream behind the last.

    Args:
        p: the name of the list of blocks.
        bias: the name of the biases of queries, keys and values; None: there are none.
        label: the start of the names of all spaces.
        classifies: whether only the special tokens of the output are read.
    """
    width = x.units
    for i in range(sizes.depth):
        block = f"{p}.{i}"
        attend = f"{block}.{names.attention}"
        name = f"{label}{i}"
        axes = attention(s, name, sizes.heads, width // sizes.heads)
        attended = s.free(f"{name}.attention", width)
        mlp = s.free(f"{name}.mlp", width)

        s.part = "attention"
        h = s.norm(f"{block}.{names.norms[0]}", x)
        queries_keys_values(s, attend, h, axes, bias)
        s.prefix_only = classifies and i == sizes.depth - 1
        s.linear(f"{attend}.{names.output}", axes.context, attended)
        x = s.join(f"{name}.middle", x, attended)

        s.part = "ffn"
        h = s.norm(f"{block}.{names.norms[1]}", x)
        feed_forward(s, name, h, sizes.hidden, mlp, (f"{block}.mlp.fc1", f"{block}.mlp.fc2"))
        x = s.join(f"{name}.out", x, mlp)
    return x
