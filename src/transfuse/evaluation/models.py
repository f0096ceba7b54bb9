"""Evaluation of models on the same samples, and comparison of the first with each other one: `transfuse.evaluate`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.budget import FLOAT_BYTES, check_free_memory
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.checkpoint.command import source_of
from transfuse.checkpoint.load import load_empty, load_model
from transfuse.config.make import make
from transfuse.config.options import Settings
from transfuse.data.blocks import in_blocks
from transfuse.data.samples import Samples, open_samples
from transfuse.data.splits import EVALUATION
from transfuse.data.tasks import check_measurable, model_preparer, task, with_model_ids
from transfuse.errors import ConfigError
from transfuse.evaluation.comparison import Evaluation, evaluation
from transfuse.evaluation.evaluate import predict_answers
from transfuse.evaluation.metrics import Predictions
from transfuse.network.precision import as_dtype
from transfuse.network.registry import load_families

Model: TypeAlias = str | Path | PreTrainedModel


def evaluate_models(
    models: Model | Sequence[Model],
    data: Any,
    limit: int | None = None,
    processor: Any = None,
    progress: Progress | bool = silent,
    **options: Any,
) -> Evaluation:
    """Measure accuracy, loss and calibration of models on labeled samples, with 95% intervals.

    Args:
        models: one model or several: checkpoint directories, Hub names or loaded models.
        data: labeled samples (texts, for a language model): a path, a `datasets.Dataset` or `Samples`.
        limit: measure on this many samples, drawn by `seed`; None: on all.
        processor: prepares the samples; None: the one in each model's directory. A loaded model has none.
        options: batch_size, seed, device, allow_pickle, spec.

    Returns:
        Metrics by the name of each model ("model 1" for a loaded one), and how the first differs from each other one.

    Raises:
        TransfuseError: a model or the data cannot be read, or the models give no answers that can be measured.
    """
    progress = as_progress(progress)
    chosen = make(Settings, options)
    load_families(chosen.spec)
    sources = [models] if isinstance(models, str | Path | PreTrainedModel) else list(models or ())
    for source in sources:
        if not isinstance(source, str | Path | PreTrainedModel):
            raise ConfigError(f"{source!r:.80}: give the path of a checkpoint or a loaded transformers model")
    if not sources:
        raise ConfigError("models: none given; give the path of a checkpoint or a loaded transformers model")
    names = [
        f"model {number}" if isinstance(source, PreTrainedModel) else str(source)
        for number, source in enumerate(sources, 1)
    ]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise ConfigError(f"{duplicate}: given twice; give it once")
    empty = [source if isinstance(source, PreTrainedModel) else _load(load_empty, source, chosen) for source in sources]
    for model in empty:
        check_measurable(model.config, type(model).__name__)
    tasks = [task(type(model).__name__) for model in empty]
    rows = open_samples(data, chosen, EVALUATION)
    samples = [model_task.labeled(rows).take(limit, chosen.seed) for model_task in tasks]
    device = chosen.torch_device()
    largest = max(model.num_parameters() for model in empty)
    check_free_memory(2 * FLOAT_BYTES * largest, device, "evaluating", progress.warn)  # as stored, and in float32
    predictions: dict[str, Predictions] = {}
    classes: dict[str, dict[int, str]] = {}
    for index, name in enumerate(progress.track(names, "evaluating")):
        source = sources[index]
        loaded = source if isinstance(source, PreTrainedModel) else _load(load_model, source, chosen)
        model = as_dtype(loaded, torch.float32).to(device)
        classes[name] = dict(model.config.id2label or {})
        told = silent if index else progress  # all models get the same samples
        batches = labeled_batches(samples[index], model, source, chosen, processor, told)
        predictions[name] = predict_answers(model, batches)
        del model, loaded  # before the next one is loaded
    measures = tuple(name for name in tasks[0].measures if all(name in model_task.measures for model_task in tasks))
    compared = evaluation(predictions, classes, measures, chosen.seed)
    return replace(compared, data=source_of(rows.source), split=rows.split)


def labeled_batches(
    samples: Samples,
    model: PreTrainedModel,
    source: Model,
    options: Settings,
    processor: Any = None,
    progress: Progress = silent,
) -> Iterator[Batch]:
    """Yield batches made by the model's own processor, with labels in the model's own ids, one at a time.

    Args:
        source: where the model came from, whose directory holds the processor.
        progress: is told about texts that were cut into blocks.
    """
    samples = in_blocks(samples, model, source, processor, options, progress)
    preparer = model_preparer(source, model, processor)
    return with_model_ids(model.config, samples).batches(preparer, options.batch_size)


def _load(load: Any, model: str | Path, options: Settings) -> PreTrainedModel:
    return load(model, pickle=options.pickle_policy())
