"""Sizes that keep a given share of a model's parameters."""

from collections.abc import Iterator

import torch
from transformers import PretrainedConfig, PreTrainedModel

from transfuse.errors import ConfigError
from transfuse.shrinking.sizes import Sizes, head_size, heads_make_width, resized, sizes_of

ROUNDING = 8  # widths are multiples of this, if they were before


def parameter_count(architecture: type[PreTrainedModel], config: PretrainedConfig) -> int:
    """Return the number of parameters of a model; those that are shared count once."""
    with torch.device("meta"):
        return int(architecture(config).num_parameters())


def sizes_for_ratio(architecture: type[PreTrainedModel], config: PretrainedConfig, ratio: float) -> Sizes:
    """Return sizes with about this share of the parameters, and not more.

    All blocks stay. The width, the heads and the hidden units shrink by factors that are as similar as heads allow.

    Raises:
        ConfigError: even one head has more parameters.
    """
    target = ratio * parameter_count(architecture, config)
    old = sizes_of(config)
    best: tuple[float, Sizes] | None = None
    for factor, sizes in _candidates(config, old):
        hidden = _intermediate_size(architecture, config, sizes, old, target)
        if hidden is None:
            continue
        fitted = Sizes(**(sizes.given() | ({"intermediate_size": hidden} if old.intermediate_size else {})))
        mismatch = abs(hidden / old.intermediate_size - factor) if old.intermediate_size else -factor
        if best is None or mismatch < best[0]:
            best = (mismatch, fitted)
    if best is None:
        raise ConfigError(f"ratio: no widths keep {ratio:g} of the parameters or less; give more, or use layers")
    return best[1]


def _candidates(config: PretrainedConfig, old: Sizes) -> Iterator[tuple[float, Sizes]]:
    """Yield every number of heads, with the width that belongs to it, and the factor of both."""
    assert old.heads is not None
    assert old.hidden_size is not None
    served = old.heads // (old.kv_heads or old.heads)
    for heads in range(served, old.heads + 1, served):
        factor = heads / old.heads
        if heads_make_width(config):
            width = heads * head_size(config)
        else:
            width = max(1, round(old.hidden_size * factor))
            step = ROUNDING if old.hidden_size % ROUNDING == 0 else 1
            width = max(step, width // step * step)
        given = old.given() | {"heads": heads, "hidden_size": width}
        yield factor, Sizes(**(given | ({"kv_heads": heads // served} if old.kv_heads else {})))


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
    if units > ROUNDING and old.intermediate_size % ROUNDING == 0:
        units = units // ROUNDING * ROUNDING
    return min(units, old.intermediate_size) if units >= 1 else None
