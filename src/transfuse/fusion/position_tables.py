"""Sources with another image size, or another number of positions of text: give their tables the anchor's positions.

Positions of images are interpolated on the grid of patches. Positions of texts are counted from the start, so a longer
table is cut off at the end. Models of images and texts have a table of each.
"""

import copy
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.counted import counted
from transfuse.errors import ConfigError
from transfuse.network.axes import fixed_dimensions
from transfuse.network.layout import join_fused, split_fused, unfused
from transfuse.network.model import declaration

SPACE = "position_id"  # the name of the fixed space of positions in every family
TEXT_SPACE = "text.position_id"  # its name in models of images and texts, and in the half of such a model
SIZES = ("image_size", "max_position_embeddings", "n_positions")  # fields that a table of positions follows


def with_anchor_positions(source: PreTrainedModel, anchor: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return the source with as many positions as the anchor; the same model if it has them already.

    Args:
        source: its tensors may be empty, and are then empty in the result.
        name: what to call the source in messages.

    Raises:
        ConfigError: the source has fewer positions of text than the anchor.
    """
    config = _with_sizes(source.config, anchor.config)
    if _sizes(config) == _sizes(source.config):
        return source
    with torch.device(source.device):
        resized = type(source)(config).to(source.dtype).eval()
    if source.device.type == "meta":
        return resized
    target = unfused(declaration(resized)).tensors()
    tensors = dict(split_fused(declaration(source), source.state_dict()))
    for table, axes in target.items():
        for space in (SPACE, TEXT_SPACE):
            old, new = (_part(model_config, space) for model_config in (source.config, config))
            for dimension in fixed_dimensions(axes, space):
                rows = tensors[table].movedim(dimension, 0)
                changed = _interpolated(rows, old, new) if _is_image(new) else _cut(rows, axes[dimension].size, name)
                tensors[table] = changed.movedim(0, dimension)
    resized.load_state_dict(join_fused(declaration(resized), tensors), strict=False)  # all but constants
    return resized


def _part(config: PreTrainedConfig, space: str) -> PreTrainedConfig:
    """Return the configuration of the half of a model that has these positions, or of the model if it has no halves."""
    half: PreTrainedConfig = getattr(config, "text_config" if space == TEXT_SPACE else "vision_config", config)
    return half


def _sizes(config: PreTrainedConfig) -> list[object]:
    return [getattr(_part(config, space), field, None) for space in (SPACE, TEXT_SPACE) for field in SIZES]


def _with_sizes(source: PreTrainedConfig, anchor: PreTrainedConfig) -> PreTrainedConfig:
    config = copy.deepcopy(source)
    for part, wanted in ((_part(config, space), _part(anchor, space)) for space in (SPACE, TEXT_SPACE)):
        for field in SIZES:
            if getattr(part, field, None) is not None and getattr(wanted, field, None) is not None:
                setattr(part, field, copy.deepcopy(getattr(wanted, field)))
    return config


def _is_image(config: PreTrainedConfig) -> bool:
    return getattr(config, "image_size", None) is not None


def _grid(config: PreTrainedConfig) -> tuple[int, int]:
    """Return the rows and columns of patches."""
    sizes, patches = (
        [value, value] if isinstance(value, int) else list(value) for value in (config.image_size, config.patch_size)
    )
    return sizes[0] // patches[0], sizes[1] // patches[1]


def _interpolated(
    rows: Float[Tensor, "position *other"], source: PreTrainedConfig, target: PreTrainedConfig
) -> Float[Tensor, "target_position *other"]:
    """Interpolate the positions of patches as transformers does; those of other tokens, which come first, are kept."""
    old, new = _grid(source), _grid(target)
    others = len(rows) - prod(old)
    grid = rows[others:].double().flatten(1).T.reshape(1, -1, *old)
    resized = interpolate(grid, new, mode="bicubic", align_corners=False)
    return torch.cat([rows[:others], resized[0].flatten(1).T.reshape(-1, *rows.shape[1:]).to(rows)])


def _cut(rows: Float[Tensor, "position *other"], count: int, name: str) -> Float[Tensor, "count *other"]:
    if len(rows) < count:
        raise ConfigError(
            f"{name}: its table has {counted(len(rows), 'position')}, the anchor's {count}; make this model the"
            " anchor, because the fused model has as many positions as the anchor"
        )
    return rows[:count]
