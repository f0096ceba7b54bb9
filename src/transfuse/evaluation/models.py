"""Evaluation of models on the same samples, and comparison of the first with each other one: `transfuse.evaluate`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.budget import FLOAT_BYTES, check_free_memory
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.checkpoint.command import source_of
from transfuse.checkpoint.load import load_empty, load_model
from transfuse.config.make import make
from transfuse.config.settings import Settings
from transfuse.data.load import open_samples
from transfuse.data.prepare import prepare_alike
from transfuse.data.splits import EVALUATION
from transfuse.data.tasks import Task
from transfuse.errors import ConfigError, DataError
from transfuse.evaluation.comparison import Evaluation, evaluation
from transfuse.evaluation.kinds.outputs import predict_similarity
from transfuse.evaluation.measures import unit
from transfuse.evaluation.metrics import Predictions, known_measures
from transfuse.evaluation.predictor import agreement_measures
from transfuse.evaluation.samples import MeasuredSamples, measured_samples
from transfuse.evaluation.statistics import predicts_as_often
from transfuse.network.class_order import predicting_in_order, warn_of_order
from transfuse.network.precision import as_dtype
from transfuse.network.registry import load_families

SIZES = ("num_labels", "vocab_size", "image_size", "num_channels")  # of inputs and outputs

Model: TypeAlias = str | Path | PreTrainedModel


def evaluate_models(
    models: Model | Sequence[Model],
    data: Any,
    limit: int | None = None,
    processor: Any = None,
    progress: Progress | bool = silent,
    **options: Any,
) -> Evaluation:
    """Measure models by the metrics of their task on labeled samples, with 95% intervals.

    Without labels, the predictions of the first model are compared with those of each other model.

    Args:
        models: one model or several: checkpoint directories, Hub names or loaded models.
        data: labeled samples (texts, for a language model), of the kinds that `fuse` takes: a path, a list of texts, of
            PIL images or of dicts, a pandas `DataFrame`, a dataset of `datasets`, or `Samples`.
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
    rows = open_samples(data, chosen, EVALUATION)
    samples = [
        measured_samples(rows, chosen, type(model).__name__, model.config).take(limit, chosen.seed) for model in empty
    ]
    _check_same_kind(names, samples)
    device = chosen.torch_device()
    largest = max(model.num_parameters() for model in empty)
    loaded_at_once = 1 if samples[0].labeled else 2
    check_free_memory(2 * loaded_at_once * FLOAT_BYTES * largest, device, "evaluating", progress.warn)  # as stored too
    ready = partial(_loaded, options=chosen)
    read = partial(replace, data=source_of(rows.source), split=rows.split)
    if not samples[0].labeled:
        return read(_agreement(names, sources, samples[0], ready, chosen, processor, progress))
    predictions: dict[str, Predictions] = {}
    classes: dict[str, dict[int, str]] = {}
    for index, name in enumerate(progress.track(names, "evaluating")):
        source = sources[index]
        model = ready(source)
        warn_of_order(empty[0].config, model, name, progress, names[0])
        with predicting_in_order(empty[0].config, model):  # numbers as labels mean the classes of the first model
            classes[name] = samples[index].class_names(model.config)
            batches = samples[index].batches(model, source, chosen, processor, progress)
            predictor = samples[index].predictor(model.config, (), ())
            predictions[name] = predictor.predict([model], batches)
        del model  # before the next one is loaded
    tasks = [measured.task for measured in samples]
    shared = tuple(name for name in tasks[0].measures if all(name in model_task.measures for model_task in tasks))
    measures = known_measures(shared, [found.metrics() for found in predictions.values()])
    for name in names[1:]:
        if not predicts_as_often(predictions[names[0]], predictions[name]):
            progress.warn(
                f"{name}: predicts another number of {unit(measures)} of a sample than {names[0]}, so the differences"
                " of their accuracy and loss are left out"
            )
    return read(evaluation(predictions, classes, measures, chosen.seed))


def _agreement(
    names: Sequence[str],
    sources: Sequence[Model],
    samples: MeasuredSamples,
    ready: Callable[[Model], PreTrainedModel],
    options: Settings,
    processor: Any,
    progress: Progress,
) -> Evaluation:
    """Return how the first model agrees with each other one, on samples without labels.

    Raises:
        DataError: there is no other model.
    """
    if len(names) < 2:
        raise DataError(
            f"{samples.samples.source}: it has no labels that {names[0]} could be measured on; name their column, or"
            " give other models too, to compare their predictions"
        )
    first = ready(sources[0])
    batches = list(samples.batches(first, sources[0], options, processor, progress))
    predictions: dict[str, Predictions] = {}
    has_head = samples.task.kind != "outputs"
    for name, source in progress.track(list(zip(names[1:], sources[1:], strict=True)), "evaluating"):
        other = ready(source)
        if has_head:
            _check_same_sizes(names[0], first.config, name, other.config)
            if processor is None and not any(isinstance(each, PreTrainedModel) for each in (sources[0], source)):
                _check_same_processors((names[0], first), (name, other), samples.task)
            warn_of_order(first.config, other, name, progress, names[0])
            with predicting_in_order(first.config, other):
                predictions[name] = samples.predictor(first.config, [other], [1.0]).predict([first], batches)
        else:
            own = samples.batches(other, source, options, processor)
            predictions[name] = predict_similarity((first, other), (batches, own))
        del other
    measures = agreement_measures(samples.task) if has_head else ("similarity",)
    compared = evaluation(predictions, {name: {} for name in predictions}, measures, options.seed)
    return replace(compared, against={}, compared=names[0])


def _check_same_sizes(first: str, config: PreTrainedConfig, name: str, other: PreTrainedConfig) -> None:
    """Raise `ConfigError` if two models do not take the same inputs or do not predict the same classes."""
    for size in SIZES:
        values = [getattr(each, size, None) for each in (config, other)]
        if values[0] != values[1]:
            raise ConfigError(
                f"{name}: its {size} is {values[1]}, that of {first} is {values[0]}; without labels, only models with"
                " the same inputs and classes can be compared"
            )


def _check_same_processors(first: tuple[str, PreTrainedModel], other: tuple[str, PreTrainedModel], task: Task) -> None:
    """Raise `ConfigError` unless two checkpoints, each with its loaded model, prepare samples alike."""
    if not prepare_alike(task, first, other):
        raise ConfigError(
            f"{other[0]}: the settings of its {task.processor} differ from those of {first[0]}; without labels, only"
            " models that prepare samples alike can be compared"
        )


def _check_same_kind(names: Sequence[str], samples: Sequence[MeasuredSamples]) -> None:
    """Raise `ConfigError` if two models predict different kinds of things, such as classes and tokens."""
    for name, measured in zip(names, samples, strict=True):
        if measured.task.kind != samples[0].task.kind:
            raise ConfigError(f"{name}: predicts something else than {names[0]}; measure each alone")


def _loaded(source: Model, options: Settings) -> PreTrainedModel:
    """Return a model in float32 on the device of the options."""
    loaded = source if isinstance(source, PreTrainedModel) else _load(load_model, source, options)
    return as_dtype(loaded, torch.float32).to(options.torch_device())


def _load(load: Any, model: str | Path, options: Settings) -> PreTrainedModel:
    return load(model, pickle=options.pickle_policy())
