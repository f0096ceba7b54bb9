"""Maps of rotary heads to heads of another size.

Frequency i of a head with d rotary channels is theta^(-2i/d), so a head of m times this size has all its frequencies:
every m-th one. A larger head writes zeros at the others, and a smaller head leaves them out.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedConfig

from transfuse.errors import ConfigError, SpecError
from transfuse.network.families.parts import declared_setting
from transfuse.network.operations import Parameter
from transfuse.network.rotary_fields import rotary
from transfuse.network.sizes import head_size
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.shrinking.maps import FrequencyGains
from transfuse.transport.maps import Matrix

OWN_FREQUENCIES = ("yarn", "longrope", "dynamic", "proportional")
"""Types of rotary positions whose frequencies depend on the size of heads in other ways."""


def holds_frequencies(space: Space) -> bool:
    """Return whether the units of a space are rotary frequencies."""
    return space.name.rpartition(".")[2] in ("pair", "frequency")


def scaled_pairs(spec: Spec, changed: Mapping[str, int]) -> dict[str, int]:
    """Return the planes, by name, that keep their number while that of the channels without positions changes.

    Args:
        changed: the units of every space that changes, by name.
    """
    spaces = spec.all_spaces()
    pairs = [f"{name.removesuffix('rest')}pair" for name in changed if name.endswith(".rest")]
    return {name: spaces[name].units for name in pairs if name in spaces and name not in changed}


def frequency_map(spec: Spec, space: Space, units: int, factor: float) -> Matrix:
    """Return the map of the frequencies of rotary heads to `units` frequencies.

    Args:
        spec: the symmetric declaration of the model.
        space: planes of channels, or the gains behind norms of queries and keys.
        factor: by what queries are multiplied.

    Raises:
        SpecError: the other heads have other frequencies, or something else than these norms depends on the channels.
    """
    few, many = sorted((space.units, units))
    if not few or many % few:
        raise SpecError(f"{space.name}: one number of rotary channels has to be a multiple of the other")
    index = torch.arange(few)
    kept = torch.zeros(few, many, dtype=torch.float64)
    kept[index, index * (many // few)] = 1.0
    kept = kept if units == many else kept.T.contiguous()
    prefix, _, kind = space.name.rpartition(".")
    if kind == "frequency":  # a norm divides by the root of the mean square, which zeros make smaller
        share = (few / many) * factor if units == many else factor
        return FrequencyGains(kept * share**0.5, kept * share**0.5)
    if any(space in axis.spaces() for op in spec.ops if isinstance(op, Parameter) for axis in op.axes):
        raise SpecError(f"{space.name}: the norms of queries and keys do not allow another number of channels")
    if spec.all_spaces().get(f"{prefix}.v", space).group is Group.SIGNED:
        raise SpecError(f"{space.name}: queries are clipped, so their heads keep their size")
    if f"{prefix}.frequency" in spec.all_spaces():
        grown = max(1.0, units / space.units) ** 0.5  # so that the epsilon of the norm keeps its share
        return Matrix(kept * grown, kept * grown)
    return Matrix(kept * factor, kept)


def check_head_size(config: PreTrainedConfig, size: int) -> None:
    """Raise `ConfigError` if heads of a model with positions in its attention cannot have another size."""
    own, settings = head_size(config), rotary(config)
    kinds = {value for name, value in settings.items() if name.rpartition(".")[2] == "rope_type"}
    if kinds & {*OWN_FREQUENCIES}:
        raise ConfigError(f"head_size: heads with rotary positions of type {', '.join(sorted(kinds))} keep their size")
    if declared_setting(config, "alibi"):
        raise ConfigError("head_size: the biases of ALiBi are divided by the size of heads, so heads keep it")
    few, many = sorted((size, own))
    if settings and (many % few or any(int(few * share) % 2 for share in _rotary_shares(settings))):
        raise ConfigError(
            f"head_size: rotary heads of size {own} cannot become heads of size {size}; the numbers of rotary channels"
            " have to be even, and one size has to be a multiple of the other"
        )
    if few <= (getattr(config, "rotary_dim", None) or 0):
        raise ConfigError(f"head_size: {config.rotary_dim} channels are rotary (rotary_dim); give more than these")
    if config.model_type == "dinov3_vit" and few % 4:
        raise ConfigError("head_size: heads with rotary positions of rows and columns need a multiple of 4")


def _rotary_shares(settings: Mapping[str, Any]) -> list[float]:
    """Return the shares of the channels of a head that are rotary."""
    shares = [value for name, value in settings.items() if name.rpartition(".")[2] == "partial_rotary_factor"]
    return shares or [1.0]
