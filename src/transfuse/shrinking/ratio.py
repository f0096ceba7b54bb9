"""Sizes that keep a given share of a model's parameters.

Hidden units are often worth less than the width of the stream and the heads, but not in every model. So several sizes
with the same number of parameters are tried, from all heads and few hidden units to few heads and all hidden units.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from transformers import PretrainedConfig, PreTrainedModel

from transfuse.base.progress import Progress
from transfuse.errors import ConfigError
from transfuse.shrinking.sizes import Sizes, head_size, heads_make_width, resized, sizes_of

ROUNDING = 8  # widths are multiples of this, if they were before
MIN_SHARE = 0.9  # of the asked number of parameters that a candidate has
MAX_CANDIDATES = 8


def parameter_count(architecture: type[PreTrainedModel], config: PretrainedConfig) -> int:
    """Return the number of parameters of a model; those that are shared count once."""
    with torch.device("meta"):
        return int(architecture(config).num_parameters())


def candidates(architecture: type[PreTrainedModel], config: PretrainedConfig, ratio: float) -> list[Sizes]:
    """Return sizes with about this share of the parameters, and not more. All blocks stay.

    The first has the widest stream and the most heads, and the last the most hidden units.

    Raises:
        ConfigError: even one head has more parameters.
    """
    target = ratio * parameter_count(architecture, config)
    old = sizes_of(config)
    found: list[Sizes] = []
    for sizes in _widths(config, old):
        units = _intermediate_size(architecture, config, sizes, old, target)
        if units is None:
            continue
        fitted = Sizes(**(sizes.given() | ({"intermediate_size": units} if old.intermediate_size else {})))
        large = parameter_count(architecture, resized(config, fitted)) >= MIN_SHARE * target
        if large or not found:
            found.append(fitted)
        if not large:
            break  # narrower ones are smaller still
    if not found:
        raise ConfigError(f"ratio: no widths keep {ratio:g} of the parameters or less; give more, or use layers")
    step = -(-len(found) // MAX_CANDIDATES)
    return found[::step]


def best_candidate(
    sizes: Sequence[Sizes], damage: Callable[[Sizes], float], progress: Progress
) -> tuple[Sizes, list[float]]:
    """Return the sizes with the least damage, and the damage of all that were tried.

    The search stops at the second sizes in a row that do more damage than the best so far.
    """
    losses: list[float] = []
    for candidate in progress.track(sizes, "choosing sizes"):
        if len(losses) - 1 - (losses.index(min(losses)) if losses else -1) < 2:
            losses.append(damage(candidate))
    return sizes[losses.index(min(losses))], losses


def _widths(config: PretrainedConfig, old: Sizes) -> Iterator[Sizes]:
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
        given = old.given() | {"heads": heads, "hidden_size": width}
        yield Sizes(**(given | ({"kv_heads": heads // served} if old.kv_heads else {})))


def _intermediate_size(
    architecture: type[PreTrainedModel], config: PretrainedConfig, sizes: Sizes, old: Sizes, target: float
) -> int | None:
    """Return how many hidden units reach the target. The number of parameters is linear in them. None: no number."""
    if old.intermediate_size is None:
        return 0 if parameter_count(architecture, resized(config, sizes)) <= target else None
    one, two = (
        parameter_count(architecture, resized(config, Sizes(**(sizes.given() | {"intermediate_size": units}))))
        for units in (1, 2)
    )
    units = int((target - one) // (two - one)) + 1
    if old.intermediate_size % ROUNDING == 0:
        units = units // ROUNDING * ROUNDING
    return min(units, old.intermediate_size) if units >= 1 else None
