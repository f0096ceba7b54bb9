"""How many calibration samples a fusion draws, unless the user says it."""

from transformers import PreTrainedModel

from transfuse.config.options import Options
from transfuse.data.image_count import image_count
from transfuse.data.samples import Samples


def sample_count(samples: Samples, model: PreTrainedModel, options: Options) -> int:
    """Return the number of samples to draw. There are more small images if weights are learned.

    Args:
        samples: the samples, of which there may be fewer.
        model: the anchor, whose tensors may be empty.
    """
    count = options.sample_count()
    if options.samples or options.merging(True) != "learned":
        return count
    return image_count(samples, model, count, options.learning(), options.torch_device())
