"""Conversion of PIL images to the inputs of a vision model, by the image processor of its checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from transformers import AutoImageProcessor, PreTrainedConfig

from transfuse.base.counted import counted
from transfuse.errors import CheckpointError, DataError, in_short
from transfuse.network.inputs import mask_noise

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MASK_SEED = 0
ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit")  # model types that compute positions for any grid
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def load_processor(folder: Path) -> Any:
    """Return the image processor saved in a folder. Code in the folder is never run, and the Hub is not queried.

    Without a saved processor it is unknown how the model scales pixels, and another scale gives other predictions.

    Raises:
        CheckpointError: there is no saved processor, or it cannot be read.
    """
    if not any((folder / name).is_file() for name in PROCESSOR_FILES):
        raise CheckpointError(
            f"{folder}: no {PROCESSOR_FILES[0]}, so it is unknown how the model scales pixels; copy this file from the"
            " original checkpoint, or save the image processor of the model's training there with save_pretrained"
        )
    try:
        return AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise CheckpointError(f"{folder}: its image processor cannot be loaded: {in_short(error)}") from error


def required_size(config: PreTrainedConfig) -> int | Sequence[int] | None:
    """Return the only image size that a vision model takes, a side or (height, width); None if it takes any size."""
    return None if config.model_type in ANY_SIZE else getattr(config, "image_size", None)


def image_preparer(
    processor: Any, channels: int, size: int | Sequence[int] | None = None
) -> Callable[[list[Any]], dict[str, Tensor]]:
    """Return a function from PIL images of any mode to `pixel_values` [batch, channel, height, width] float32.

    Args:
        channels: input channels of the model.
        size: image size of the model, a side or (height, width); None if it takes any size.

    Raises:
        DataError: `channels` is not 1, 3 or 4. The function raises it for images that `processor` cannot turn into
            one batch of that `size`.
    """
    if channels not in MODES:
        raise DataError(
            f"the model expects images of {counted(channels, 'channel')}; supported are {', '.join(map(str, MODES))}"
        )
    mode = MODES[channels]

    def prepare(images: list[Any]) -> dict[str, Tensor]:
        converted = [_converted(image, mode) for image in images]
        try:
            inputs = dict(processor(converted, return_tensors="pt"))
        except Exception as error:
            sizes = ", ".join(sorted({f"{image.width}x{image.height}" for image in images})[:4])
            raise DataError(
                f"the image processor cannot prepare {mode} images of {sizes}: {in_short(error)}"
            ) from error
        made, *shape = inputs["pixel_values"].shape[1:]
        if made != channels:
            raise DataError(
                f"the image processor makes {counted(made, 'channel')}, the model takes {channels}; use its own"
            )
        expected = shape if size is None else [size, size] if isinstance(size, int) else list(size)
        if shape != expected:
            raise DataError(
                f"the image processor makes images of {_width_by_height(shape)}, the model takes"
                f" {_width_by_height(expected)}; use its own"
            )
        return inputs

    return prepare


def with_equal_masks(
    prepare: Callable[[list[Any]], dict[str, Tensor]], config: PreTrainedConfig
) -> Callable[[list[Any]], dict[str, Tensor]]:
    """Return the same function with `noise` [image, patch], so that all models mask the same patches of a batch."""

    def prepare_with_noise(images: list[Any]) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(MASK_SEED)
        return {**prepare(images), "noise": mask_noise(config, len(images), generator)}

    return prepare_with_noise


def _width_by_height(shape: Sequence[int]) -> str:
    return "x".join(map(str, reversed(shape)))


def _converted(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    if image.mode.startswith("I;16"):  # PIL would clip 16 bits to 8 instead of scaling
        image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"an image has {image.mode!r} pixels, whose range is unknown; save the images with 8 or 16 bits"
        )
    return image if image.mode == mode else image.convert(mode)
