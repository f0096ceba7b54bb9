"""The start of models of images: patches, special tokens and positions."""

from math import prod

from transfuse.network.builder import Builder
from transfuse.network.families.parts import Config
from transfuse.network.operations import Axes
from transfuse.network.patch_grid import pair, patch_grid
from transfuse.network.space import Space
from transfuse.network.token_layout import Tokens


def patches(
    s: Builder,
    config: Config,
    p: str,
    tokens: tuple[str, ...],
    positions: bool,
    projection: str = "patch_embeddings.projection",
    registers: int | None = None,
) -> Space:
    """Declare patches and special tokens, with learned positions or without, and return the stream.

    Args:
        p: the prefix of the names.
        tokens: names of special tokens.
        projection: the name of the patch convolution.
        registers: the number of tokens without positions behind the special ones; None: there is no tensor of them.
    """
    width = config.hidden_size
    grid = patch_grid(config)
    s.tokens = Tokens(len(tokens) + (registers or 0), *grid)
    s.part = "embeddings"
    one = s.fixed("one", 1)
    patch = x = s.free("patch", width)
    s.linear(f"{p}{projection}", pixels(s, config), x)
    if positions:
        position = s.free("position", width)
        s.table(f"{p}position_embeddings", (one, s.fixed("position_id", len(tokens) + prod(grid))), position)
        x = s.join("embed", position, x)
    for token in tokens:
        name = {"cls_token": "class_token"}.get(token, token)
        special = s.free(name, width)
        s.table(f"{p}{token}", (one, one), special)
        x = s.concatenate("tokens" if token == tokens[-1] else f"tokens.{token}", x, special)
    if registers is not None:
        register = s.free("register", width) if registers else patch  # an empty tensor shows no units
        s.table(f"{p}register_tokens", (one, s.fixed("register_id", registers)), register)
        x = s.concatenate("tokens.register", x, register) if registers else x
    return x


def pixels(s: Builder, config: Config) -> Axes:
    """Return the axes that a patch convolution reads."""
    rows, columns = pair(config.patch_size)
    return s.fixed("channel", config.num_channels), s.fixed("row", rows), s.fixed("column", columns)
