"""Small data sets of grey images."""

import io
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from transformers import PreTrainedConfig, ViTImageProcessorPil

from transfuse.data.samples import Samples

NAMES = ["cat", "dog", "owl"]


def picture(value: int, mode: str = "RGB", size: int = 4) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (size, size), (value, value, value)).convert(mode)


def encoded(value: int) -> bytes:
    buffer = io.BytesIO()
    picture(value).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(count: int = 6, mode: str = "RGB") -> Dataset:
    """Image k is of value 10 k, and of class k modulo 3."""
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    rows = {"image": [picture(10 * k, mode) for k in range(count)], "label": [k % 3 for k in range(count)]}
    return Dataset.from_dict(rows, features=features)


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(value).save(path)


def processor_of(config: PreTrainedConfig) -> ViTImageProcessorPil:
    """An image processor that scales pixels to [-1, 1], for the image size and channels of a model."""
    half = [0.5] * config.num_channels
    size = {"height": config.image_size, "width": config.image_size}
    return ViTImageProcessorPil(size=size, image_mean=half, image_std=half)


def values(samples: Samples) -> list[int]:
    """The grey value of each image."""
    return [image.convert("L").getpixel((0, 0)) for image in samples.inputs(range(len(samples)))]


def one_line(caught: pytest.ExceptionInfo[Any]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message
