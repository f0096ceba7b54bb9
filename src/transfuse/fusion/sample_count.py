"""How many calibration samples a fusion draws, unless the user says it."""

from transformers import PretrainedConfig

from transfuse.base.budget import FLOAT_BYTES
from transfuse.config.options import Options
from transfuse.data.samples import Samples

IMAGES = 10_000  # where weights are learned: an image has one answer, and training reads it a few times
IMAGES_PER_STEP = 100
IMAGE_BYTES = 2**29  # that so many may take once they are prepared, or else there are fewer


def sample_count(samples: Samples, config: PretrainedConfig, options: Options) -> int:
    """Return the number of samples to draw.

    Args:
        samples: the samples, of which there may be fewer.
        config: the configuration of the anchor, which tells the size of an image.
        options: the options of the fusion.
    """
    count = options.sample_count()
    learning = options.learning()
    learns = options.merging(True) == "learned" and learning.trains
    size = _image_bytes(config)
    if options.samples or samples.image is None or samples.text is not None or not learns or not size:
        return count
    read = IMAGES if learning.steps is None else IMAGES_PER_STEP * learning.steps
    return max(count, min(read, IMAGES, IMAGE_BYTES // size))


def _image_bytes(config: PretrainedConfig) -> int | None:
    """Return the size of a prepared image; None if the configuration does not tell."""
    side, channels = (getattr(config, name, None) for name in ("image_size", "num_channels"))
    if side is None or channels is None:
        return None
    height, width = (side, side) if isinstance(side, int) else side
    return int(height * width * channels * FLOAT_BYTES)
