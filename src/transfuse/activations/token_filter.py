"""Filters that choose which tokens of a sequence count as samples of a space (TF-OT, section 5)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedConfig

from transfuse.base.batch import Batch
from transfuse.errors import ConfigError
from transfuse.network.patch_grid import pair
from transfuse.network.token_layout import Tokens

TokenFilter = Callable[[Float[Tensor, "batch token unit"]], Float[Tensor, "batch selected unit"]]


def all_tokens(values: Float[Tensor, "batch token unit"]) -> Float[Tensor, "batch token unit"]:
    """Return all tokens."""
    return values


def layout_of_batches(layout: Tokens | None, config: PreTrainedConfig, batches: Sequence[Batch]) -> Tokens | None:
    """Return the layout with the grid of the images in the batches, whose size the configuration may not give.

    Args:
        layout: the layout for images of the configuration's size; None: the model has none.
        config: the configuration of the model.
        batches: batches of images of one size, of texts, or none.
    """
    if layout is None or not layout.rows or not batches:
        return layout
    height, width = batches[0]["pixel_values"].shape[-2:]
    rows, columns = pair(getattr(config, "vision_config", config).patch_size)
    return replace(layout, rows=height // rows, columns=width // columns)


def prefix_tokens(layout: Tokens) -> TokenFilter:
    """Return a filter for the special tokens before a text or a grid of patches."""
    if not layout.rows:
        return lambda values: values[:, : layout.prefix]
    return _select(layout, list(range(layout.prefix)))


def window_tokens(layout: Tokens, size: int) -> TokenFilter:
    """Return a filter for the special tokens and the central `size` x `size` patches.

    Raises:
        ConfigError: the grid is smaller than the window.
    """
    if size > min(layout.rows, layout.columns):
        raise ConfigError(
            f"tokens: window-{size} is larger than the grid of {layout.rows} x {layout.columns} patches;"
            " choose a smaller window"
        )
    top = (layout.rows - size) // 2
    left = (layout.columns - size) // 2
    patches = [
        layout.prefix + row * layout.columns + column
        for row in range(top, top + size)
        for column in range(left, left + size)
    ]
    return _select(layout, [*range(layout.prefix), *patches])


def parse_token_filter(name: str, layout: Tokens | None) -> TokenFilter:
    """Return the filter with this name: `all`, `class`, or `window-N`.

    Raises:
        ConfigError: the name is unknown, or the model has no class token and grid of patches.
    """
    if name == "all":
        return all_tokens
    match = re.fullmatch(r"window-([1-9]\d*)", name)
    if name != "class" and not match:
        raise ConfigError(f"tokens: {name!r} is not one of all, class, window-N (window-6: the central 6 x 6 patches)")
    if layout is None or not layout.rows:
        raise ConfigError(f"tokens: {name} needs a model with a class token and a grid of patches; choose all")
    return window_tokens(layout, int(match[1])) if match else prefix_tokens(layout)


def _select(layout: Tokens, positions: list[int]) -> TokenFilter:
    """Return a filter for these positions of complete sequences.

    Before the special tokens are added, a sequence consists of patches only, and all of them are selected. The released
    implementation does the same.
    """
    length = layout.prefix + layout.rows * layout.columns
    indices = torch.tensor(positions)
    return lambda values: values[:, indices] if values.shape[1] == length else values
