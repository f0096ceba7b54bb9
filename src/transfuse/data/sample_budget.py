"""How many samples are drawn, unless the user says it.

Where weights are trained, more small images are drawn than other samples. Without a GPU, a large model gets no more
samples than training can read in its time, because nobody would wait for the others. A GPU reads thousands of samples
in any time that a user allows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, first_samples
from transfuse.base.budget import FLOAT_BYTES, token_count
from transfuse.checkpoint.reading.load import Model
from transfuse.config.literals import LearningOptions
from transfuse.data.image.images import required_size
from transfuse.data.processors import model_preparer
from transfuse.data.samples import Samples
from transfuse.network.patch_grid import pair
from transfuse.network.sizes import active_parameters

IMAGES = 10_000  # an image has one answer, and training reads it a few times
IMAGES_PER_STEP = 100
IMAGE_BYTES = 2**29  # that so many may take once they are prepared, or else there are fewer
CPU_FLOPS = 5e10  # operations per second that training may count on without a GPU
TRAINING = 10  # operations per token and parameter: three passes of the model and one of each of two teachers
WEIGHTING = 12  # the same for weighting two teachers of an image by three moved copies of it
QUICK_MINUTES = 2.0  # that finding the best start of a training may take where no training follows
MIN_SAMPLES = 100  # that are always read


@dataclass(frozen=True)
class SampleBudget:
    """The number of samples to draw.

    Attributes:
        count: as the user gave it, or the usual number.
        learning: how long weights are trained on them; None: the number is fixed, since the user gave it or no
            training can follow.
        device: where they are trained.
        weighs_images: whether the teachers of each image are weighted.
    """

    count: int
    learning: LearningOptions | None
    device: torch.device
    weighs_images: bool = True

    def drawn(self, samples: Samples, model: PreTrainedModel, source: Model, processor: Any = None) -> int:
        """Return how many samples to draw, before the lengths of texts are known.

        Args:
            samples: the samples, of which there may be fewer.
            model: the model that is trained, whose tensors may be empty.
            source: the same, as it was passed by the user.
            processor: prepares the samples; None: the processor in the model's directory.
        """
        size = _image_size(samples, model, source, processor)
        if size is None or self.learning is None:
            return self.count
        limit = self._images_in_time(model, size, self.learning)
        wanted = self._images(model, size, self.learning)
        return wanted if limit is None else min(wanted, limit)

    def kept(self, count: int, tokens: float, model: PreTrainedModel) -> int:
        """Return how many of the drawn samples to keep, once their lengths are known.

        Args:
            count: the number of samples that were drawn.
            tokens: their mean number of tokens.
            model: the model that is trained, whose tensors may be empty.
        """
        limit = None if self.learning is None else self._in_time(model, tokens, self.learning)
        return count if limit is None else min(count, limit)

    def first(self, batches: Sequence[Batch], model: PreTrainedModel) -> list[Batch]:
        """Return the samples to keep of those that were drawn and prepared."""
        if self.keeps_all:
            return list(batches)
        count = sum(map(batch_size, batches))
        tokens = sum(token_count(model.config, batch) for batch in batches) / count
        return list(first_samples(batches, self.kept(count, tokens, model)))

    @property
    def keeps_all(self) -> bool:
        """Whether all drawn samples are kept, however long they are."""
        return self.learning is None or self.device.type != "cpu" or self.learning.steps is not None

    def _images(self, model: PreTrainedModel, size: tuple[int, int], learning: LearningOptions) -> int:
        """Return how many images training may read once, if time allows: more small ones."""
        channels = getattr(model.config, "num_channels", None)
        if channels is None or not learning.trains:
            return self.count
        read = IMAGES if learning.steps is None else min(IMAGES, IMAGES_PER_STEP * learning.steps)
        return max(self.count, min(read, IMAGE_BYTES // (size[0] * size[1] * channels * FLOAT_BYTES)))

    def _images_in_time(self, model: PreTrainedModel, size: tuple[int, int], learning: LearningOptions) -> int | None:
        tokens = 1 + prod(size) / prod(pair(getattr(model.config, "patch_size", 1)))
        return self._in_time(model, tokens, learning, WEIGHTING if self.weighs_images else 0)

    def _in_time(
        self, model: PreTrainedModel, tokens: float, learning: LearningOptions, weighting: int = 0
    ) -> int | None:
        """Return about how many samples training reads in its time; None if there is no limit.

        Args:
            tokens: the mean number of tokens of a sample.
            weighting: operations per token and parameter that weighting the teachers takes.
        """
        if self.keeps_all:
            return None
        seconds = 60 * (learning.minutes if learning.trains else QUICK_MINUTES)
        operations = (TRAINING + weighting) * active_parameters(model) * max(tokens, 1)
        return max(int(CPU_FLOPS * seconds / operations), MIN_SAMPLES)


def _image_size(samples: Samples, model: PreTrainedModel, source: Model, processor: Any) -> tuple[int, int] | None:
    """Return the height and width of the images that a model reads; None if the samples are not images alone."""
    if samples.image is None or samples.text is not None or getattr(model.config, "image_size", None) is None:
        return None
    side = required_size(model.config)
    if side is None:  # the processor decides
        side = model_preparer(source, model, processor)(samples.inputs([0]))["pixel_values"].shape[-2:]
    return pair(side)
