"""The sizes of a smaller model, of which some are given."""

from dataclasses import replace

from transformers import PreTrainedConfig

from transfuse.errors import ConfigError
from transfuse.network.sizes import Sizes, head_size, heads_make_width, is_valid, resized, sizes_of


def target_sizes(config: PreTrainedConfig, wanted: Sizes, name: str = "the model") -> Sizes:
    """Return all sizes of the smaller model, given some of them. What is not given stays as it is.

    Without a field for the size of a head, fewer heads follow from a smaller width, and a smaller width follows from
    smaller heads.

    Args:
        wanted: the given sizes.
        name: the model's name in messages.

    Raises:
        ConfigError: the model has no such size, a size is larger than that of the model, or heads do not fit.
    """
    old = sizes_of(config)
    for role, size in wanted.given().items():
        own = getattr(old, role)
        if own is None:
            raise ConfigError(f"{role}: {name} has no such size; leave it out")
        if size > own:
            raise ConfigError(f"{role}: {size} is more than the {own} of {name}; give at most {own}")
    sizes = replace(old, **(wanted.given() | _heads(config, old, wanted, name)))
    if sizes == old:
        raise ConfigError(f"{name} has these sizes already; give a smaller size")
    if not is_valid(resized(config, sizes)):
        assert old.heads is not None
        counts = [replace(sizes, heads=heads) for heads in range(1, old.heads + 1)]
        possible = [str(count.heads) for count in counts if is_valid(resized(config, count))]
        hint = f"heads {', '.join(possible)}, or another hidden_size" if possible else "another hidden_size"
        raise ConfigError(
            f"heads: {type(config).__name__} does not allow {sizes.heads} heads with a hidden_size of"
            f" {sizes.hidden_size}; give {hint}"
        )
    return sizes


def _heads(config: PreTrainedConfig, old: Sizes, wanted: Sizes, name: str) -> dict[str, int]:
    """Return the heads of the smaller model."""
    assert old.hidden_size is not None
    assert old.heads is not None
    size = wanted.head_size or head_size(config)
    heads = wanted.heads or old.heads
    result = {"head_size": size}
    if heads_make_width(config) and (wanted.hidden_size or wanted.heads or wanted.head_size):
        width = wanted.hidden_size or (heads * size if wanted.head_size else old.hidden_size)
        if width % size:
            below, above = width // size * size, (width // size + 1) * size
            stays = "" if wanted.head_size else f" of {name}, which stays unless head_size is given"
            raise ConfigError(
                f"hidden_size: {width} is not a multiple of {size}, the size of a head{stays}; give"
                f" {f'{below} or ' if below else ''}{above}"
            )
        if wanted.heads and wanted.heads * size != width:
            smaller = "" if width % wanted.heads else f", or head_size {width // wanted.heads}"
            raise ConfigError(
                f"heads: {wanted.heads} heads of size {size} make a hidden_size of {wanted.heads * size}, not {width};"
                f" give hidden_size {wanted.heads * size} or heads {width // size}{smaller}"
            )
        heads = width // size
        if heads > old.heads:
            raise ConfigError(
                f"head_size: with {size}, a hidden_size of {width} takes {heads} heads, and {name} has {old.heads};"
                f" give hidden_size {old.heads * size} or less"
            )
        result["hidden_size"] = width
    result["heads"] = heads
    if old.kv_heads is None:
        return result
    return result | {"kv_heads": _kv_heads(old, heads, wanted, name)}


def _kv_heads(old: Sizes, heads: int, wanted: Sizes, name: str) -> int:
    """Return the heads of keys and values. Each serves at most as many query heads as before, and not one alone."""
    assert old.heads is not None
    assert old.kv_heads is not None
    served = old.heads // old.kv_heads
    allowed = range(min(served, 2), served + 1)  # one query head alone has another declaration
    alone = ", and one query head alone is not supported" if served > 1 else ""
    counts = range(1, old.kv_heads + 1)
    possible = [count for count in counts if heads % count == 0 and heads // count in allowed]
    advice = " or ".join(str(count) for count in possible if (heads, count) != (old.heads, old.kv_heads))
    if wanted.kv_heads:
        if wanted.kv_heads not in possible:
            raise ConfigError(
                f"kv_heads: in {name}, each head of keys and values serves {served} query heads, so {wanted.kv_heads}"
                f" of them cannot serve {heads}{alone}; give"
                f" {advice or f'heads {wanted.kv_heads * served}'}"
            )
        return wanted.kv_heads
    if heads % served == 0:
        return heads // served
    if old.kv_heads in possible:
        return old.kv_heads
    multiple = heads // served * served or (2 if old.kv_heads == 1 else served)
    raise ConfigError(
        f"heads: in {name}, {served} query heads share one head of keys and values, and {heads} is not a multiple of"
        f" {served}{alone}; give {multiple}{advice and f', or kv_heads {advice}'}"
    )
