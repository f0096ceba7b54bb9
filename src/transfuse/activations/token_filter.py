"""Which tokens of a sequence are samples of a space (TF-OT, section 5: "window" filters, the class token)."""

import re
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.errors import ConfigError
from transfuse.network.spec import Tokens

TokenFilter = Callable[[Float[Tensor, "batch token unit"]], Float[Tensor, "batch kept unit"]]


def all_tokens(values: Float[Tensor, "batch token unit"]) -> Float[Tensor, "batch token unit"]:
    """All tokens."""
    return values


def prefix_tokens(layout: Tokens) -> TokenFilter:
    """The special tokens alone, in front of every text or every grid of patches that they have joined."""
    if not layout.rows:
        return lambda values: values[:, : layout.prefix]
    return _of_whole_sequences(layout, list(range(layout.prefix)))


def window_tokens(layout: Tokens, size: int) -> TokenFilter:
    """The special tokens and the central `size` x `size` patches. Raises `ConfigError` where there are fewer."""
    if size > min(layout.rows, layout.columns):
        raise ConfigError(f"tokens: window-{size} is larger than the grid of {layout.rows} x {layout.columns} patches")
    tops = [(count - size) // 2 for count in (layout.rows, layout.columns)]
    patches = [
        layout.prefix + row * layout.columns + column
        for row in range(tops[0], tops[0] + size)
        for column in range(tops[1], tops[1] + size)
    ]
    return _of_whole_sequences(layout, [*range(layout.prefix), *patches])


def _of_whole_sequences(layout: Tokens, places: list[int]) -> TokenFilter:
    """These places; patches that the special tokens have not joined yet are all kept, as released."""
    length, index = layout.prefix + layout.rows * layout.columns, torch.tensor(places)
    return lambda values: values[:, index] if values.shape[1] == length else values


def parse_token_filter(name: str, layout: Tokens | None) -> TokenFilter:
    """`all`, `class`, or `window-N`. Raises `ConfigError` for another name, or where the model has no such tokens."""
    if name == "all":
        return all_tokens
    match = re.fullmatch(r"window-([1-9]\d*)", name)
    if name != "class" and not match:
        raise ConfigError(f"tokens: {name!r} is not one of all, class, window-N (window-6: the central 6 x 6 patches)")
    if layout is None or not layout.rows:
        raise ConfigError(f"tokens: {name} needs a model with a class token and a grid of patches; choose all")
    return window_tokens(layout, int(match[1])) if match else prefix_tokens(layout)
