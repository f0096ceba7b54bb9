"""How many images are drawn where weights are learned, unless the user says it."""

import torch
from transformers import PreTrainedModel

from transfuse.base.budget import FLOAT_BYTES
from transfuse.config.literals import LearningOptions
from transfuse.data.samples import Samples

IMAGES = 10_000  # an image has one answer, and training reads it a few times
IMAGES_PER_STEP = 100
IMAGE_BYTES = 2**29  # that so many may take once they are prepared, or else there are fewer
CPU_FLOPS = 5e10  # operations per second that training may count on without a GPU
PASSES = 10  # operations per image, parameter and token: three passes of the model and one of each of two teachers


def image_count(
    samples: Samples, model: PreTrainedModel, count: int, learning: LearningOptions, device: torch.device
) -> int:
    """Return the number of samples to draw: of small images, as many as training may read once, else `count`.

    Args:
        samples: the samples, of which there may be fewer.
        model: the model that is trained, whose tensors may be empty.
        count: the number of other samples, and the least number of images.
    """
    side, channels = (getattr(model.config, name, None) for name in ("image_size", "num_channels"))
    if samples.image is None or samples.text is not None or side is None or channels is None or not learning.trains:
        return count
    height, width = (side, side) if isinstance(side, int) else side
    read = _images_read(model, height * width, learning, on_cpu=device.type == "cpu")
    return max(count, min(IMAGES, read, IMAGE_BYTES // (height * width * channels * FLOAT_BYTES)))


def _images_read(model: PreTrainedModel, pixels: int, learning: LearningOptions, on_cpu: bool) -> int:
    """Return about how many images training reads."""
    if learning.steps is not None:
        return IMAGES_PER_STEP * learning.steps
    if not on_cpu:
        return IMAGES
    patch = getattr(model.config, "patch_size", 1)
    tokens = pixels / (patch**2 if isinstance(patch, int) else patch[0] * patch[1])
    return int(CPU_FLOPS * 60 * learning.minutes / (PASSES * model.num_parameters() * tokens))
