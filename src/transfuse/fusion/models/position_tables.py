"""Sources with another image size, or another number of positions of text: give their tables the anchor's positions.

Positions of images are interpolated on the grid of patches, and their distances on the grid of distances. Positions of
texts are counted from the start, so a longer table is cut off at the end. Models of images and texts have a table of
each. A number of positions that the forward pass reads stays as it is, so that the models are refused later.
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
from transfuse.network.config_fields import differences
from transfuse.network.layout import join_fused, split_fused, unfused
from transfuse.network.model import declaration
from transfuse.network.patch_grid import patch_grid
from transfuse.network.reconfigured import empty_like

SPACE = "position_id"  # the name of the fixed space of positions in every family
TEXT_SPACE = "text.position_id"  # its name in models of images and texts, and in the half of such a model
DISTANCE_SPACE = "distance"  # the name of the fixed space of relative positions
TEXT_SIZES = ("max_position_embeddings", "n_positions")
SIZES = ("image_size", *TEXT_SIZES)  # fields that a table of positions follows


def with_anchor_positions(source: PreTrainedModel, anchor: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return the source with as many positions as the anchor; the same model if it has them already.

    Args:
        source: its tensors may be empty, and are then empty in the result.
        name: what to call the source in messages.

    Raises:
        ConfigError: the source has fewer positions of text than the anchor.
    """
    config = _with_sizes(source.config, anchor.config, type(source).__name__)
    if _sizes(config) == _sizes(source.config):
        return source
    resized = empty_like(source, config)
    if source.device.type == "meta":
        return resized
    target = unfused(declaration(resized)).tensors()
    tensors = dict(split_fused(declaration(source), source.state_dict()))
    for table, axes in target.items():
        for space in (SPACE, TEXT_SPACE, DISTANCE_SPACE):
            interpolated = _interpolated_distances if space == DISTANCE_SPACE else _interpolated
            old, new = (_part(model_config, space) for model_config in (source.config, config))
            for dimension in fixed_dimensions(axes, space):
                rows = tensors[table].movedim(dimension, 0)
                changed = interpolated(rows, old, new) if _is_image(new) else _cut(rows, axes[dimension].size, name)
                tensors[table] = changed.movedim(0, dimension)
    resized.load_state_dict(join_fused(declaration(resized), tensors), strict=False)  # all but constants
    return resized


def _part(config: PreTrainedConfig, space: str) -> PreTrainedConfig:
    """Return the configuration of the half of a model that has these positions, or of the model if it has no halves."""
    half: PreTrainedConfig = getattr(config, "text_config" if space == TEXT_SPACE else "vision_config", config)
    return half


def _sizes(config: PreTrainedConfig) -> list[object]:
    return [getattr(_part(config, space), field, None) for space in (SPACE, TEXT_SPACE) for field in SIZES]


def _with_sizes(source: PreTrainedConfig, anchor: PreTrainedConfig, architecture: str) -> PreTrainedConfig:
    """Return the source's configuration with the anchor's sizes, except those that the forward pass reads."""
    config = copy.deepcopy(source)
    for part, wanted in ((_part(config, space), _part(anchor, space)) for space in (SPACE, TEXT_SPACE)):
        for field in SIZES:
            own, other = getattr(part, field, None), getattr(wanted, field, None)
            if own is not None and other is not None:
                setattr(part, field, copy.deepcopy(other))
                if field in TEXT_SIZES and _reads_sizes(source, config, architecture):
                    setattr(part, field, own)
    return config


def _reads_sizes(source: PreTrainedConfig, config: PreTrainedConfig, architecture: str) -> bool:
    """Return whether another number of positions of text changes what the source computes."""
    fields = {difference.path.rpartition(".")[2] for difference in differences(source, config, architecture)}
    return not fields.isdisjoint(TEXT_SIZES)


def _is_image(config: PreTrainedConfig) -> bool:
    return getattr(config, "image_size", None) is not None


def _interpolated(
    rows: Float[Tensor, "position *other"], source: PreTrainedConfig, target: PreTrainedConfig
) -> Float[Tensor, "target_position *other"]:
    """Interpolate the positions of patches as transformers does; those of other tokens, which come first, are kept."""
    old, new = patch_grid(source), patch_grid(target)
    others = len(rows) - prod(old)
    return torch.cat([rows[:others], _resized(rows[others:], old, new, "bicubic")])


def _interpolated_distances(
    rows: Float[Tensor, "distance *other"], source: PreTrainedConfig, target: PreTrainedConfig
) -> Float[Tensor, "target_distance *other"]:
    """Interpolate the distances between patches as transformers does; those of other tokens, at the end, are kept."""
    old, new = (tuple(2 * count - 1 for count in patch_grid(config)) for config in (source, target))
    return torch.cat([_resized(rows[: prod(old)], old, new, "bilinear"), rows[prod(old) :]])


def _resized(
    rows: Float[Tensor, "cell *other"], old: tuple[int, ...], new: tuple[int, ...], mode: str
) -> Float[Tensor, "target_cell *other"]:
    """Interpolate the cells of one grid at those of another."""
    grid = rows.double().flatten(1).T.reshape(1, -1, *old)
    resized = interpolate(grid, new, mode=mode, align_corners=False)
    return resized[0].flatten(1).T.reshape(-1, *rows.shape[1:]).to(rows)


def _cut(rows: Float[Tensor, "position *other"], count: int, name: str) -> Float[Tensor, "count *other"]:
    if len(rows) < count:
        raise ConfigError(
            f"{name}: its table has {counted(len(rows), 'position')}, the anchor's {count}; make this model the"
            " anchor, because the fused model has as many positions as the anchor"
        )
    return rows[:count]
