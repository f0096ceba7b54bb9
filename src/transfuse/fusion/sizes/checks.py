"""Checks that the sizes of a model can become those of the anchor."""

from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.counted import counted
from transfuse.errors import ConfigError, TransfuseError
from transfuse.fusion.sizes.block_order import has_in_order, has_places, same_kind
from transfuse.fusion.sizes.shared_keys import served
from transfuse.fusion.sizes.wider import check_wider
from transfuse.network.families import declare
from transfuse.network.sizes import EMBEDDING_WIDTH, Sizes, heads_make_width, resized, sizes_of
from transfuse.shrinking.blocks import why_not_removable
from transfuse.shrinking.possible import check_smaller
from transfuse.shrinking.rotary_heads import check_head_size

ROTARY = ("rope_parameters", "rope_theta", "rotary_dim")  # fields of models with rotary positions


def least_sizes(own: Sizes, wanted: Sizes) -> Sizes:
    """Return the smaller one of every two sizes, and of the numbers of query heads for each key-value head.

    Key-value heads that serve several query heads still serve at least two, because they can be repeated later.
    """
    other = wanted.given()
    least = Sizes(**{role: min(size, other[role]) for role, size in own.given().items()})
    if not least.heads or not least.kv_heads:
        return least
    repeats = served(own) > 1 == served(wanted)
    possible = range(served(own), 1, -1) if repeats else [min(served(own), served(wanted))]
    groups = {serves: min(least.kv_heads, least.heads // serves) for serves in possible}
    serves = max(groups, key=lambda number: number * groups[number])
    return replace(least, heads=groups[serves] * serves, kv_heads=groups[serves])


def only_widths(sizes: Sizes) -> Sizes:
    """Return all sizes but the number of blocks."""
    return replace(sizes, layers=None)


def checked_blocks(
    anchor: PreTrainedModel, source: PreTrainedModel, own: Sizes, wanted: Sizes, difference: str
) -> Bool[Tensor, "own place"] | None:
    """Return which blocks of a model may take each place among the anchor's; None if it has as many blocks.

    Raises:
        ConfigError: blocks cannot be left out, or put between its own.
    """
    if own.layers is None or wanted.layers is None or own.layers == wanted.layers:
        return None
    is_deeper = own.layers > wanted.layers
    if reason := why_not_removable(source, own.layers):
        change = "left out of it" if is_deeper else "put between its own"
        raise ConfigError(f"{difference}, and no blocks can be {change}: {reason}; give models of equal depth")
    allowed = same_kind(source.config, anchor.config, own.layers, wanted.layers)
    if not (has_in_order(allowed, range(own.layers)) if is_deeper else has_places(allowed)):
        raise ConfigError(
            f"{difference}, and no places in order have blocks of the same kind (such as layer_types in config.json);"
            " give models of equal depth"
        )
    return allowed


def check_widths(anchor: PreTrainedModel, source: PreTrainedModel, own: Sizes, wanted: Sizes, difference: str) -> None:
    """Raise `ConfigError` unless a model can give up what is wider than in the anchor, and widen what is narrower."""
    if only_widths(own) == only_widths(wanted):
        return
    try:
        if wanted.head_size and own.head_size != wanted.head_size:
            check_head_size(source.config, wanted.head_size)
        small, least = source.config, only_widths(least_sizes(own, wanted))
        if least != only_widths(own):
            small = resized(small, least)
            _check_heads_make_width(source, small, least)
            check_smaller(source, sizes_of(small), "it")
        large = resized(small, only_widths(wanted))
        mine, theirs = (getattr(config, EMBEDDING_WIDTH, None) for config in (large, anchor.config))
        if mine != theirs:
            raise ConfigError(f"its {EMBEDDING_WIDTH} would be {mine}, not {theirs}")
        check_wider(source, small, large)
    except TransfuseError as error:
        agree = (own.heads, own.kv_heads, own.head_size) == (wanted.heads, wanted.kv_heads, wanted.head_size)
        is_bound = own.kv_heads is not None or _is_rotary(source.config)  # so that the flow matches heads one to one
        advice = "fuse models whose heads agree" if is_bound and not agree else "use --align flow"
        raise ConfigError(f"{difference}, and this cannot be changed ({error}); {advice}") from error


def _check_heads_make_width(source: PreTrainedModel, small: PreTrainedConfig, least: Sizes) -> None:
    """Raise `ConfigError` if heads of this size do not make the width, and models of this class cannot have others."""
    heads, size = least.heads or 0, least.head_size or 0
    if heads_make_width(source.config) and least.hidden_size != heads * size:
        name = type(source).__name__
        other = resized(small, replace(least, head_size=size + 1))
        if sizes_of(small).head_size != size or declare(small, name) == declare(other, name):
            raise ConfigError(
                f"{counted(heads, 'head')} of {counted(size, 'channel')} would not make a width of {least.hidden_size}"
            )


def _is_rotary(config: PreTrainedConfig) -> bool:
    return any(hasattr(config, name) for name in ROTARY)
