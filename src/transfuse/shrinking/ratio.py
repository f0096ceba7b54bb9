"""Sizes that keep a given share of a model's parameters.

Hidden units are often worth less than the width of the stream, the heads and the blocks, but not in every model. So
several sizes with the same number of parameters are tried. Models with experts get fewer experts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from math import ceil

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.errors import ConfigError
from transfuse.network.parameter_count import ROUNDING, CountFn, count_fn, intermediate_size, parameter_count
from transfuse.network.sizes import Sizes, head_size, heads_make_width, is_valid, resized, sizes_of

MIN_SHARE = 0.9  # of the asked number of parameters that a candidate has
MAX_CANDIDATES = 8


def candidates(
    architecture: type[PreTrainedModel], config: PreTrainedConfig, ratio: float, removable: bool
) -> list[list[Sizes]]:
    """Return sizes with about this share of the parameters, and not more, in series; with much less if there are none.

    The first series keeps all blocks; it goes from the widest stream and the most heads to the most hidden units. The
    second keeps the stream and the heads; it goes from the most blocks to the most hidden units. With experts,
    only their number changes.

    Args:
        removable: whether blocks can be removed.

    Raises:
        ConfigError: even the smallest widths have more parameters.
    """
    old = sizes_of(config)
    count = count_fn(architecture, config)
    if old.experts is not None:
        return [[_fewer_experts(count, old.experts, ratio)]]
    series = [[*_widths(config, old)], [*_depths(old)] if removable else []]
    whole = parameter_count(architecture, config)
    target = ratio * whole
    found = [_series(count, old, sizes, target) for sizes in series]
    if not any(found):
        smallest = min(_smallest(count, sizes) for sizes in chain(*series))
        shares = (share / 100 for share in range(ceil(100 * smallest / whole), 100))
        possible = next(
            (
                share
                for share in shares
                if share > ratio and any(_series(count, old, sizes, share * whole) for sizes in series)
            ),
            1.0,
        )
        raise ConfigError(
            f"ratio: no sizes keep {ratio:g} of the parameters or less; give at least {possible:g}, or choose sizes"
        )
    large = [[sizes for sizes, number in some.items() if number >= MIN_SHARE * target] for some in found]
    if not any(large):
        counts = dict(chain.from_iterable(some.items() for some in found))
        large = [[max(counts, key=counts.__getitem__)]]
    return [sizes[:: -(-len(sizes) // MAX_CANDIDATES)] for sizes in large if sizes]


def _fewer_experts(count: CountFn, experts: int, ratio: float) -> Sizes:
    """Return sizes with as many experts as this share of the parameters has room for, but not all of them."""
    whole, two, one = (count(Sizes(experts=number)) for number in (experts, 2, 1))
    removed = max(1, ceil((1 - ratio) * whole / (two - one)))
    if removed >= experts:
        possible = ceil(100 * one / whole) / 100
        raise ConfigError(
            f"ratio: even one expert in each block has more than {ratio:g} of the parameters; give {possible:g} or more"
        )
    return Sizes(experts=experts - removed)


def _smallest(count: CountFn, sizes: Sizes) -> int:
    """Return the number of parameters with these sizes and one hidden unit."""
    return count(replace(sizes, intermediate_size=1) if sizes.intermediate_size else sizes)


def _series(count: CountFn, old: Sizes, series: Iterable[Sizes], target: float) -> dict[Sizes, int]:
    """Return the sizes of a series with the hidden units that reach the target, as far as these are enough.

    Returns:
        The number of parameters with each of them.
    """
    found: dict[Sizes, int] = {}
    for sizes in series:
        units = _intermediate_size(count, old, sizes, target)
        if units is None:
            continue
        fitted = replace(sizes, intermediate_size=units) if old.intermediate_size else sizes
        found[fitted] = count(fitted)
        if found[fitted] < MIN_SHARE * target and units in (0, old.intermediate_size):
            break  # later ones are smaller still
    return found


def _depths(old: Sizes) -> Iterator[Sizes]:
    """Yield every smaller number of blocks."""
    for layers in range((old.layers or 1) - 1, 0, -1):
        yield replace(old, layers=layers)


def _widths(config: PreTrainedConfig, old: Sizes) -> Iterator[Sizes]:
    """Yield every number of heads, from the old one down, with the width that belongs to it."""
    assert old.heads is not None
    assert old.hidden_size is not None
    served = old.heads // (old.kv_heads or old.heads)
    for heads in range(old.heads, 0, -served):
        if heads_make_width(config):
            width = heads * head_size(config)
        else:
            step = ROUNDING if old.hidden_size % ROUNDING == 0 else 1
            width = max(step, round(old.hidden_size * heads / old.heads) // step * step)
        kv_heads = heads // served if old.kv_heads else None
        sizes = replace(old, heads=heads, hidden_size=width, kv_heads=kv_heads)
        if is_valid(resized(config, sizes)):
            yield sizes


def _intermediate_size(count: CountFn, old: Sizes, sizes: Sizes, target: float) -> int | None:
    """Return how many hidden units reach the target, at most the old number. None: no number."""
    if old.intermediate_size is None:
        return 0 if count(sizes) <= target else None
    units = intermediate_size(count, old, sizes, target)
    return min(units, old.intermediate_size) if units >= 1 else None
