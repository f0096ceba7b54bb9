"""How many images are drawn where weights are learned, unless the user says it."""

import torch
from transformers import PreTrainedModel

from transfuse.base.budget import FLOAT_BYTES
from transfuse.config.literals import LearningOptions
from transfuse.data.samples import Samples
from transfuse.data.samples_in_time import TRAINING, WEIGHTING, samples_in_time

IMAGES = 10_000  # an image has one answer, and training reads it a few times
IMAGES_PER_STEP = 100
IMAGE_BYTES = 2**29  # that so many may take once they are prepared, or else there are fewer


def image_count(
    samples: Samples, model: PreTrainedModel, count: int, learning: LearningOptions, device: torch.device
) -> int:
    """Return the number of samples to draw: of small images, as many as training may read once, else `count`.

    Args:
        samples: the samples, of which there may be fewer.
        model: the model that is trained, whose tensors may be empty.
        count: the number of other samples, and the least number of images.
    """
    size, channels = image_size(samples, model), getattr(model.config, "num_channels", None)
    if size is None or channels is None or not learning.trains:
        return count
    read = IMAGES if learning.steps is None else IMAGES_PER_STEP * learning.steps
    if (limit := images_in_time(model, size, learning, device)) is not None:
        read = min(read, limit)
    return max(count, min(IMAGES, read, IMAGE_BYTES // (size[0] * size[1] * channels * FLOAT_BYTES)))


def image_size(samples: Samples, model: PreTrainedModel) -> tuple[int, int] | None:
    """Return the height and width of the images that a model reads; None if the samples are not images alone."""
    side = getattr(model.config, "image_size", None)
    if samples.image is None or samples.text is not None or side is None:
        return None
    return (side, side) if isinstance(side, int) else (side[0], side[1])


def images_in_time(
    model: PreTrainedModel, size: tuple[int, int], learning: LearningOptions, device: torch.device
) -> int | None:
    """Return what `samples_in_time` returns, for images of some height and width."""
    patch = getattr(model.config, "patch_size", 1)
    tokens = 1 + size[0] * size[1] / (patch**2 if isinstance(patch, int) else patch[0] * patch[1])
    return samples_in_time(model, tokens, learning, device, TRAINING + WEIGHTING)
