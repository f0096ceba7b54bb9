"""The number of parameters of a model, from its configuration, and the hidden units that reach a number."""

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.network.sizes import Sizes, resized, sizes_of

ROUNDING = 8  # widths are multiples of this, if they were before


def parameter_count(architecture: type[PreTrainedModel], config: PreTrainedConfig) -> int:
    """Return the number of parameters of a model; those that are shared count once."""
    with torch.device("meta"):
        return int(architecture(config).num_parameters())


def intermediate_size(
    architecture: type[PreTrainedModel], config: PreTrainedConfig, sizes: Sizes, target: float
) -> int:
    """Return the largest number of hidden units with at most `target` parameters; it is not positive if there is none.

    The number of parameters is linear in the hidden units, which the model must have.
    """
    one, two = (
        parameter_count(architecture, resized(config, Sizes(**(sizes.given() | {"intermediate_size": units}))))
        for units in (1, 2)
    )
    units = int((target - one) // (two - one)) + 1
    return units // ROUNDING * ROUNDING if (sizes_of(config).intermediate_size or 0) % ROUNDING == 0 else units
