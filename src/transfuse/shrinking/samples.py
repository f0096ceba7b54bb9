"""The samples of shrinking: as many as training can process in the time allowed, prepared for the large model."""

from typing import Any

from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.load import Model
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.data.prepare import draw, open_calibration, prepare
from transfuse.data.sample_budget import SampleBudget
from transfuse.data.samples import Samples
from transfuse.data.text.generation import given_or_generated


def read_samples(
    model: PreTrainedModel, source: Model, data: Any, options: ShrinkOptions, processor: Any, progress: Progress
) -> tuple[Samples, list[Batch]]:
    """Return the samples, and batches of them on the model's device.

    Args:
        model: the large model.
        source: the same, as it was passed by the user.
        data: where the samples are, or "generated".
    """
    learning = options.learning() if options.samples is None else None
    budget = SampleBudget(options.sample_count(), learning, options.torch_device(), weighs_images=False)
    data = given_or_generated(data, [model], source, processor, budget, options.seed, progress)
    samples = open_calibration(data, model, options)
    count = budget.drawn(samples, model, source, processor)
    samples = draw(samples, count, model, source, options, processor, progress)
    batches = prepare(samples, model, source, options, processor)
    return samples, budget.first(batches, model)
