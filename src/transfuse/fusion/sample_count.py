"""How many calibration samples a fusion draws, unless the user says it."""

from transformers import PreTrainedModel

from transfuse.config.options import Options
from transfuse.data.generation import LENGTH
from transfuse.data.image_count import image_count, image_size, images_in_time
from transfuse.data.samples import Samples
from transfuse.data.samples_in_time import samples_in_time


def sample_count(samples: Samples, model: PreTrainedModel, options: Options) -> int:
    """Return the number of samples to draw.

    If weights are learned, there are more small images, and without a GPU fewer images for a large model.

    Args:
        samples: the samples, of which there may be fewer.
        model: the anchor, whose tensors may be empty.
    """
    count = options.sample_count()
    if not _is_automatic(options):
        return count
    learning, device = options.learning(), options.torch_device()
    count = image_count(samples, model, count, learning, device)
    size = image_size(samples, model)
    limit = None if size is None else images_in_time(model, size, learning, device)
    return count if limit is None else min(count, limit)


def count_in_time(count: int, tokens: float, model: PreTrainedModel, options: Options) -> int:
    """Return the number of texts to keep: without a GPU, as many as training a large model may read in its time.

    Args:
        count: the number of texts that were drawn.
        tokens: their mean number of tokens.
        model: the anchor, whose tensors may be empty.
    """
    limit = samples_in_time(model, tokens, options.learning(), options.torch_device())
    return count if limit is None or not _is_automatic(options) else min(count, limit)


def generated_count(model: PreTrainedModel, options: Options) -> int:
    """Return the number of texts that models generate."""
    return count_in_time(options.sample_count(), LENGTH, model, options)


def _is_automatic(options: Options) -> bool:
    return not options.samples and options.merging(True) == "learned"
