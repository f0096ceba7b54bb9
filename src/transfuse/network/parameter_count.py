"""The number of parameters of a model, from its configuration, and the hidden units that reach a number."""

from collections.abc import Callable
from dataclasses import replace

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.network.sizes import Sizes, resized

ROUNDING = 8  # widths are multiples of this, if they were before
CountFn = Callable[[Sizes], int]


def parameter_count(architecture: type[PreTrainedModel], config: PreTrainedConfig) -> int:
    """Return the number of parameters of a model; those that are shared count once."""
    with torch.device("meta"):
        return int(architecture(config).num_parameters())


def count_fn(architecture: type[PreTrainedModel], config: PreTrainedConfig) -> CountFn:
    """Return a function that counts the parameters of a model of other sizes."""
    return lambda sizes: parameter_count(architecture, resized(config, sizes))


def intermediate_size(count: CountFn, old: Sizes, sizes: Sizes, target: float) -> int:
    """Return the largest number of hidden units with at most `target` parameters; it is not positive if there is none.

    The number of parameters is linear in the hidden units, which the model must have.

    Args:
        count: returns the number of parameters.
        old: the sizes of the model as it is.
        sizes: the other sizes that it is to have.
    """
    one, two = (count(replace(sizes, intermediate_size=units)) for units in (1, 2))
    units = int((target - one) // (two - one)) + 1
    return units // ROUNDING * ROUNDING if (old.intermediate_size or 0) % ROUNDING == 0 else units
