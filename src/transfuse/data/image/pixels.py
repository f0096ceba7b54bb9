"""Images in memory: how they are stored, and values that are no PIL images."""

from contextlib import suppress
from io import IOBase
from typing import Any

import PIL.Image
import PIL.ImageOps
from datasets import Dataset

from transfuse.data.column_kinds import is_number

STORED_MODES = {"HSV": "RGB", "RGBa": "RGBA", "La": "LA"}  # in which images of other modes can be encoded
FROM_ARRAY = "arrays are not read as images; make each a PIL image with PIL.Image.fromarray"


def storable(value: Any) -> Any:
    """Return an image that can be encoded without a loss, turned as its EXIF data say. Other values stay as they are.

    Images of files are stored as their paths. Others would be compressed again by the format that they had.
    """
    if not isinstance(value, PIL.Image.Image):
        return value
    if value.mode in STORED_MODES:
        return value.convert(STORED_MODES[value.mode])
    if value.format is not None and not getattr(value, "filename", ""):
        with suppress(OSError, SyntaxError):  # of a broken image, which is reported where it is encoded
            return PIL.ImageOps.exif_transpose(value)  # a copy, which has no format
    return value


def image_advice(value: Any) -> str | None:
    """Return how to make an image of an array, a tensor or an open file; None for other values."""
    if isinstance(value, IOBase):
        return "open files are not read; make each a PIL image with PIL.Image.open"
    return FROM_ARRAY if getattr(value, "ndim", 0) > 1 and hasattr(value, "dtype") else None


def why_no_image(dataset: Dataset, columns: str) -> str:
    """Return why there is no image column among these, and what to do."""
    arrays = [name for name, feature in dataset.features.items() if _is_array(feature)]
    if arrays:
        return f"column {arrays[0]!r} holds arrays; {FROM_ARRAY}"
    return (
        f"no image column among {columns}; the model takes images (an Image feature, encoded bytes, or a column of"
        " image file names)"
    )


def _is_array(feature: Any) -> bool:
    if type(feature).__name__ in ("Array2D", "Array3D"):
        return True
    depth = 0
    while hasattr(feature, "feature"):  # lists
        feature, depth = feature.feature, depth + 1
    return depth > 1 and is_number(feature)
