"""Prepare samples for a model, in batches on its device."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.budget import check_sample, samples_at_once
from transfuse.base.progress import Progress, silent
from transfuse.checkpoint.reading.load import Model
from transfuse.config.settings import Settings
from transfuse.data.files.splits import CALIBRATION
from transfuse.data.lazy_batches import LazyBatches
from transfuse.data.load import open_samples
from transfuse.data.measured_tasks import labeled_task
from transfuse.data.processor_settings import differing_settings
from transfuse.data.processors import model_preparer, model_processor
from transfuse.data.samples import Samples
from transfuse.data.tasks import Task, task
from transfuse.data.text.blocks import in_blocks


def prepare(
    samples: Samples, model: PreTrainedModel, source: Model, options: Settings, processor: Any = None
) -> LazyBatches:
    """Return batches on the model's device. A batch of long samples has fewer of them than `options.batch_size`.

    Args:
        source: the path or the loaded model whose processor prepares the samples, unless `processor` is given.
    """
    model_task = labeled_task(type(model).__name__, model.config) if samples.parts else task(type(model).__name__)
    preparer = model_preparer(source, model, processor, model_task)
    samples = readable(samples, model)
    example = preparer(samples.inputs([samples.longest_index()]))
    check_sample(model, example)
    count = samples_at_once(model, example, options.batch_size)
    return replace(samples.lazy_batches(preparer, count), device=model.device)


def open_calibration(data: Any, model: PreTrainedModel, options: Settings) -> Samples:
    """Return calibration samples as a model reads them.

    Args:
        data: where the samples are, as `open_samples` takes it.

    Raises:
        DataError: the samples cannot be read, or not by the model.
    """
    return readable(open_samples(data, options, CALIBRATION), model)


def draw(
    samples: Samples,
    count: int,
    model: PreTrainedModel,
    source: Model,
    options: Settings,
    processor: Any = None,
    progress: Progress = silent,
) -> Samples:
    """Return at most `count` samples in random order, of which long texts were cut into blocks.

    Args:
        source: as for `prepare`.
        progress: is told about texts that were cut.
    """
    samples = in_blocks(samples.shuffled(options.seed, count), model, source, processor, options, progress)
    return samples.shuffled(options.seed, count)


def prepare_alike(kind: Task, *checkpoints: tuple[str | Path, PreTrainedModel]) -> bool:
    """Return whether checkpoints, each with its loaded model, have processors that prepare samples alike."""
    first, *others = (kind.settings(model_processor(path, model)) for path, model in checkpoints)
    return not any(differing_settings(first, other) for other in others)


def readable(samples: Samples, model: PreTrainedModel) -> Samples:
    """Return samples as the model reads them; those whose parts are known already are returned as they are.

    Raises:
        DataError: the model cannot read the samples.
    """
    return samples if samples.parts else task(type(model).__name__).samples(samples)
