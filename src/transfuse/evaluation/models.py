"""Evaluation of models on the same samples, and comparison of the first with each other one: `transfuse.evaluate`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.budget import FLOAT_BYTES, check_free_memory
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.base.torch_settings import own_torch_settings
from transfuse.checkpoint.reading.load import Model, load_empty, load_model
from transfuse.config.make import make
from transfuse.config.settings import MeasuringSettings, Settings
from transfuse.data.files.splits import EVALUATION
from transfuse.data.load import open_samples
from transfuse.data.prepare import prepare_alike
from transfuse.data.processors import pooling_folder
from transfuse.data.tasks import Task
from transfuse.data.text.pooling import warn_of_pooling
from transfuse.errors import ConfigError, DataError
from transfuse.evaluation.class_names import check_class_names
from transfuse.evaluation.comparison import Evaluation, evaluation
from transfuse.evaluation.kinds.outputs import predict_similarity
from transfuse.evaluation.measures import unit
from transfuse.evaluation.metrics import Predictions, known_measures
from transfuse.evaluation.predictor import agreement_measures
from transfuse.evaluation.samples import MeasuredSamples, measured_samples
from transfuse.evaluation.statistics import predicts_as_often
from transfuse.evaluation.subjects import Given, Subject, differing_size, subjects, with_processors
from transfuse.evaluation.unknown import warn_of_unknown
from transfuse.network.class_order import predicting_in_order, warn_of_order
from transfuse.network.model import converted
from transfuse.network.precision import as_dtype
from transfuse.network.registry import load_families
from transfuse.network.token_ids import copy_padding_token


@own_torch_settings()
def evaluate_models(
    models: Given | Sequence[Given],
    data: Any,
    limit: int | None = None,
    processor: Any = None,
    progress: Progress | bool = silent,
    **options: Any,
) -> Evaluation:
    """Measure models by the metrics of their task on labeled samples, with 95% intervals.

    Without labels, the predictions of the first model are compared with those of each other model. Loaded models are
    measured in eval mode and in float32, and are not changed.

    Args:
        models: one model or several: checkpoint directories, Hub names, loaded models, or results of `fuse`,
            `finetune` and `shrink`.
        data: labeled samples (texts, for a language model), of the kinds that `fuse` takes: a path, a list of texts, of
            PIL images or of dicts, a pandas `DataFrame`, a dataset of `datasets`, or `Samples`.
        limit: measure on this many samples, drawn by `seed`; None: on all.
        processor: prepares the samples: a processor, or the path of a checkpoint that has one. None: the one in each
            model's directory. A loaded model has none, and takes that of another one of its kind and sizes in `models`.
        options: batch_size, seed, device, allow_pickle, spec.

    Returns:
        Metrics by the name of each model ("model 1" for a loaded one), and how the first differs from each other one.

    Raises:
        TransfuseError: a model or the data cannot be read, or the models give no answers that can be measured.
    """
    progress = as_progress(progress)
    chosen = make(MeasuringSettings, options | {"limit": limit})
    load_families(chosen.spec)
    found = subjects(models, processor)
    names = [subject.name for subject in found]
    empty = [_empty(subject.source, chosen) for subject in found]
    found = with_processors(found, [model.config for model in empty], progress)
    rows = open_samples(data, chosen, EVALUATION)
    samples = [
        measured_samples(rows, chosen, type(model).__name__, model.config, data).take(chosen.limit, chosen.seed)
        for model in empty
    ]
    _check_same_kind(names, samples)
    if not samples[0].labeled and samples[0].task.kind != "outputs":
        for name, other in zip(names[1:], empty[1:], strict=True):
            _check_same_sizes(names[0], empty[0].config, name, other.config)
    check_class_names(names, empty, samples, progress)
    device = chosen.torch_device()
    largest = max(model.num_parameters() for model in empty)
    loaded_at_once = 1 if samples[0].labeled else 2
    check_free_memory(2 * loaded_at_once * FLOAT_BYTES * largest, device, "evaluating", progress.warn)  # as stored too
    ready = partial(_loaded, options=chosen)
    read = partial(replace, data=rows.source, split=samples[0].samples.split)
    if not samples[0].labeled:
        return read(_agreement(found, samples[0], ready, chosen, progress))
    return read(_measurements(found, samples, ready, empty[0].config, chosen, progress))


def _measurements(
    models: Sequence[Subject],
    samples: Sequence[MeasuredSamples],
    ready: Callable[[Model], PreTrainedModel],
    first: PreTrainedConfig,
    options: Settings,
    progress: Progress,
) -> Evaluation:
    """Return the metrics of every model on labeled samples.

    Args:
        samples: the samples as each model reads them.
        first: the configuration of the first model, whose classes numbers as labels mean.
    """
    predictions: dict[str, Predictions] = {}
    classes: dict[str, dict[int, str]] = {}
    names = [subject.name for subject in models]
    for index, name in enumerate(progress.track(names, "evaluating")):
        subject, measured = models[index], samples[index]
        model = ready(subject.source)
        warn_of_order(first, model, name, progress, names[0])
        with predicting_in_order(first, model):  # numbers as labels mean the classes of the first model
            classes[name] = measured.class_names(model.config)
            batches = measured.batches(model, subject.source, options, subject.processor, progress)
            predictions[name] = measured.predictor(model.config, (), ()).predict([model], batches)
        warn_of_unknown(name, predictions[name], progress)
        del model  # before the next one is loaded
    tasks = [measured.task for measured in samples]
    shared = tuple(name for name in tasks[0].measures if all(name in model_task.measures for model_task in tasks))
    measures = known_measures(shared, [each.metrics() for each in predictions.values()])
    for name in names[1:]:
        if not predicts_as_often(predictions[names[0]], predictions[name]):
            progress.warn(
                f"{name}: predicts another number of {unit(measures)} of a sample than {names[0]}, so the differences"
                " of their accuracy and loss are left out"
            )
    return evaluation(predictions, classes, measures, options.seed)


def _agreement(
    models: Sequence[Subject],
    samples: MeasuredSamples,
    ready: Callable[[Model], PreTrainedModel],
    options: Settings,
    progress: Progress,
) -> Evaluation:
    """Return how the first model agrees with each other one, on samples without labels.

    Raises:
        DataError: there is no other model.
    """
    compared = models[0]
    if len(models) < 2:
        raise DataError(
            f"{samples.samples.name}: it has no labels that {compared.name} could be measured on; name their column,"
            " or give other models too, to compare their predictions"
        )
    has_head = samples.task.kind != "outputs"
    if not has_head:
        folders = {subject.name: pooling_folder(subject.source, subject.processor) for subject in models}
        samples = replace(samples, pooled_by=next(filter(None, folders.values()), None))
        warn_of_pooling(folders, progress)
    first = ready(compared.source)
    batches = list(samples.batches(first, compared.source, options, compared.processor, progress))
    predictions: dict[str, Predictions] = {}
    for subject in progress.track(models[1:], "evaluating"):
        name = subject.name
        other = ready(subject.source)
        if has_head:
            copy_padding_token(first, [other])
            if all(isinstance(each.processor, str | Path) for each in (compared, subject)):
                _check_same_processors((compared, first), (subject, other), samples.task)
            warn_of_order(first.config, other, name, progress, compared.name)
            with predicting_in_order(first.config, other):
                predictions[name] = samples.predictor(first.config, [other], [1.0]).predict([first], batches)
        else:
            own = samples.batches(other, subject.source, options, subject.processor)
            predictions[name] = predict_similarity((first, other), (batches, own))
        warn_of_unknown(f"{compared.name}, compared with {name}", predictions[name], progress)
        del other
    measures = agreement_measures(samples.task) if has_head else ("similarity",)
    found = evaluation(predictions, {name: {} for name in predictions}, measures, options.seed)
    return replace(found, against={}, compared=compared.name)


def _check_same_sizes(first: str, config: PreTrainedConfig, name: str, other: PreTrainedConfig) -> None:
    """Raise `ConfigError` if two models do not take the same inputs or do not predict the same classes."""
    if found := differing_size(config, other):
        size, expected, value = found
        raise ConfigError(
            f"{name}: its {size} is {value}, that of {first} is {expected}; without labels, only models with the same"
            " inputs and classes can be compared"
        )


def _check_same_processors(
    first: tuple[Subject, PreTrainedModel], other: tuple[Subject, PreTrainedModel], task: Task
) -> None:
    """Raise `ConfigError` unless the processors of two models, each loaded, prepare samples alike."""
    if not prepare_alike(task, *((subject.processor, model) for subject, model in (first, other))):
        raise ConfigError(
            f"{other[0].name}: the settings of its {task.processor} differ from those of {first[0].name}; without"
            " labels, only models that prepare samples alike can be compared"
        )


def _check_same_kind(names: Sequence[str], samples: Sequence[MeasuredSamples]) -> None:
    """Raise `ConfigError` if two models predict different kinds of things, such as classes and tokens."""
    for name, measured in zip(names, samples, strict=True):
        if measured.task.kind != samples[0].task.kind:
            raise ConfigError(f"{name}: predicts something else than {names[0]}; measure each alone")


def _empty(source: Model, options: Settings) -> PreTrainedModel:
    """Return a loaded model as it is, and one in files without its weights."""
    return source if isinstance(source, PreTrainedModel) else _load(load_empty, source, options)


def _loaded(source: Model, options: Settings) -> PreTrainedModel:
    """Return a model in float32 on the device of the options; one that the user has loaded is not changed."""
    device = options.torch_device()
    if isinstance(source, PreTrainedModel):
        return converted(source, torch.float32, device)
    return as_dtype(_load(load_model, source, options), torch.float32).to(device)


def _load(load: Any, model: str | Path, options: Settings) -> PreTrainedModel:
    return load(model, pickle=options.pickle_policy())
