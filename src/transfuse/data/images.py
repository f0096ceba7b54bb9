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
from transfuse.errors import CheckpointError, DataError
from transfuse.network.inputs import mask_noise

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
MASK_SEED = 0
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def load_processor(checkpoint: str | Path | None, config: PreTrainedConfig) -> Any:
    """Return the image processor saved in `checkpoint`, or a default one for the image size and channels of `config`.

    The default processor scales pixels to [-1, 1]. Code in the checkpoint is never run, and the Hub is not queried.

    Raises:
        CheckpointError: the saved processor cannot be read, or there is none and `config` has no image size.
    """
    folder = Path(checkpoint) if checkpoint is not None else None
    if folder is None or not any((folder / name).is_file() for name in PROCESSOR_FILES):
        return _default_processor(config)
    try:
        return AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder}: its image processor cannot be loaded: {reason}") from error


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
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"the image processor cannot prepare {mode} images of {sizes}: {reason}") from error
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


def _default_processor(config: PreTrainedConfig) -> Any:
    try:
        from transformers import ViTImageProcessorPil as VisionProcessor
    except ImportError:
        from transformers import ViTImageProcessor as VisionProcessor
    config = getattr(config, "vision_config", config)
    size = getattr(config, "image_size", None)
    channels = getattr(config, "num_channels", 3)
    if size is None:
        raise CheckpointError("the model's config.json has no image_size; save an image processor with the model")
    height, width = (size, size) if isinstance(size, int) else size
    half = [0.5] * channels
    return VisionProcessor(size={"height": height, "width": width}, image_mean=half, image_std=half)
