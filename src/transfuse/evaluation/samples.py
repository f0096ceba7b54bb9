"""The samples that models are measured on, with labels or without."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.counted import are, counted
from transfuse.base.progress import Progress, silent
from transfuse.config.settings import Settings
from transfuse.data.files.splits import EVALUATION, canonical_split
from transfuse.data.labels.numeric_labels import CLASS_PART
from transfuse.data.load import open_samples
from transfuse.data.measured_tasks import measured_task
from transfuse.data.parts import shown_classes
from transfuse.data.processors import model_preparer
from transfuse.data.samples import Samples
from transfuse.data.tasks import Task, task, with_model_ids
from transfuse.data.text.blocks import in_blocks
from transfuse.data.text.questions import window_preparer
from transfuse.errors import DataError, NoLabelsError
from transfuse.evaluation.labeled_rows import has_no_label, labeled_samples, unread_labels
from transfuse.evaluation.predictor import Predictor, agreement_predictor, label_predictor


@dataclass(frozen=True)
class MeasuredSamples:
    """Hold samples to measure models of one task on.

    Attributes:
        samples: the samples, without labels if the models are to be compared with each other.
        task: how the samples are prepared and measured.
        labeled: whether the samples have labels.
        pooled_by: the folder whose files name the token that is pooled for models that have no such files.
    """

    samples: Samples
    task: Task
    labeled: bool
    pooled_by: Path | None = None

    def numbered(self, config: PreTrainedConfig) -> bool:
        """Return whether labels are numbers of classes, so that only the model says what these are."""
        named = self.samples.names is not None or any(part.startswith(CLASS_PART) for part in self.samples.parts)
        return self.labeled and not named and with_model_ids(config, self.samples).ids is None

    def take(self, limit: int | None, seed: int) -> "MeasuredSamples":
        """Return `limit` random samples; all if there are no more, or if it is None."""
        return replace(self, samples=self.samples.take(limit, seed))

    def batches(
        self,
        model: PreTrainedModel,
        source: Any,
        options: Settings,
        processor: Any = None,
        progress: Progress = silent,
    ) -> Iterator[Batch]:
        """Yield batches as `labeled_batches` does."""
        return labeled_batches(self.samples, model, source, options, processor, progress, self.task, self.pooled_by)

    def class_names(self, config: PreTrainedConfig) -> dict[int, str]:
        """Return the names of a model's classes, or those of the data if the model has none."""
        return shown_classes(config, self.samples.names if self.samples.parts else None)

    def predictor(
        self, config: PreTrainedConfig, references: Sequence[PreTrainedModel], weights: Sequence[float]
    ) -> Predictor:
        """Return how models are measured: on the labels, or by agreement with the references if there are none.

        Args:
            weights: one per reference; they sum to one.
        """
        if self.labeled:
            return label_predictor(self.task, self.class_names(config))
        return agreement_predictor(self.task, references, weights)


def labeled_batches(
    samples: Samples,
    model: PreTrainedModel,
    source: Any,
    options: Settings,
    processor: Any = None,
    progress: Progress = silent,
    model_task: Task | None = None,
    pooled_by: Path | None = None,
) -> Iterator[Batch]:
    """Yield batches made by the model's own processor, with labels in the model's own ids, one at a time.

    Args:
        source: where the model came from, whose directory holds the processor.
        progress: is told about texts that were cut into blocks.
        model_task: how the samples are prepared; None: as the class of the model says.
        pooled_by: as `model_preparer` takes it.
    """
    in_windows = model_task is not None and model_task.preparer is window_preparer  # whose cuts are told about below
    samples = with_model_ids(model.config, samples)
    for note in samples.notes if in_windows else ():
        progress.warn(note)
    samples = in_blocks(samples, model, source, processor, options, silent if in_windows else progress)
    preparer = model_preparer(source, model, processor, model_task, pooled_by)
    batches = samples.batches(preparer, options.batch_size)
    return _counting_windows(batches, len(samples), progress)


def _counting_windows(batches: Iterator[Batch], contexts: int, progress: Progress) -> Iterator[Batch]:
    """Yield the batches, and then tell how many contexts are read in windows."""
    cut = 0
    for batch in batches:
        if "labels_first" in batch:
            windows = (batch["labels_first"].cumsum(0) - 1).bincount()
            cut += int((windows > 1).sum())
        yield batch
    if cut:
        progress.warn(
            f"{cut} of {counted(contexts, 'context')} {are(cut)} longer than the model takes;"
            f" {'it' if cut == 1 else 'they'} {are(cut)} read in windows"
        )


def measured_samples(
    data: Any, options: Settings, architecture: str, config: PreTrainedConfig, source: Any = None
) -> MeasuredSamples:
    """Return samples to measure a model on: with labels if the data has them, otherwise without.

    If no row of a split has a label, as in the test split of GLUE, the next one is read, unless the options name one.
    Rows without a label are left out, with a note, if others have one.

    Args:
        architecture: name of the model's class.
        source: what `data` were read from, which may have another split; None: `data`.

    Raises:
        DataError: the data cannot be read, or its labels do not fit the model.
    """
    rows = samples = open_samples(data, options, EVALUATION)
    model_task = measured_task(architecture, config)
    problem: DataError | None = None
    try:
        samples = labeled_samples(rows, model_task, config)
    except DataError as error:
        problem = error
    if has_no_label(samples, model_task.kind, config, problem):
        other = _next_split(data if source is None else source, options, rows, model_task, config)
        if other is not None:
            return MeasuredSamples(other, model_task, True)
    if isinstance(problem, NoLabelsError):
        reading = task(architecture)
        samples = replace(reading.samples(rows), label=None)
        if unread := unread_labels(rows, model_task.kind, config):
            samples = samples.with_note(unread)
        return MeasuredSamples(samples, replace(model_task, preparer=reading.preparer), False)
    if problem is not None:
        raise problem
    return MeasuredSamples(samples, model_task, True)


def _next_split(
    data: Any, options: Settings, rows: Samples, model_task: Task, config: PreTrainedConfig
) -> Samples | None:
    """Return the labeled samples of the split after that of `rows`; None if there are none, or a split was named."""
    can_be_read_again = isinstance(data, str | Path | Mapping) and model_task.kind != "outputs"
    if not can_be_read_again or options.split is not None or rows.split is None:
        return None
    others = tuple(split for split in EVALUATION if split != canonical_split(str(rows.split)))
    with suppress(DataError):
        found = open_samples(data, options, others)
        note = f"{rows.name}: no sample has a label, so that split {found.split} is read"
        labeled = labeled_samples(replace(found, notes=(note, *found.notes)), model_task, config)
        return None if found.split == rows.split or has_no_label(labeled, model_task.kind, config) else labeled
    return None
