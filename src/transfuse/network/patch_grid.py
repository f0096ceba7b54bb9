"""The grid of patches that a model of images cuts an image into."""

from collections.abc import Sequence
from typing import Any


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width, for which transformers also accepts one number."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def patch_grid(config: Any) -> tuple[int, int]:
    """Return the numbers of rows and of columns of patches, given the configuration of a model of images."""
    (height, width), (rows, columns) = pair(config.image_size), pair(config.patch_size)
    return height // rows, width // columns
