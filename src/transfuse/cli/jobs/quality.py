"""Say how good a fused or a fine-tuned model is, on few samples, or which command measures it."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfuse.base.memory_limit import is_out_of_memory
from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.config_file import read_config
from transfuse.checkpoint.reading.load import local_directory
from transfuse.config.data_options import DataOptions, is_generated
from transfuse.config.job import Job
from transfuse.config.settings import Settings
from transfuse.data.files.splits import with_split
from transfuse.data.tasks import task, with_model_ids
from transfuse.errors import DataError, SpecError, TransfuseError
from transfuse.evaluation.measures import headline, phrase, unit
from transfuse.evaluation.metrics import metrics_dict
from transfuse.evaluation.models import evaluate_models
from transfuse.evaluation.samples import measured_samples
from transfuse.fusion.matched import Matched
from transfuse.fusion.result import Fusion
from transfuse.report.facts import Measurement
from transfuse.report.verdict import verdict

QUICK_LIMIT = 200  # samples that every fusion with data is measured on


def quick_measurement(job: Job, matched: Matched, fusion: Fusion, progress: Progress) -> Measurement | dict[str, Any]:
    """Measure the parents and the fused model on a few samples of the fusion's data.

    Returns:
        The measurement; if nothing was measured, the reason and, if there is one, the command that measures.
    """
    try:
        task(type(matched.anchor).__name__)
    except SpecError as error:  # no data can measure it
        return {"verdict": f"Not measured: {str(error).partition(';')[0]}.", "models": {}}
    if matched.data is None:
        return _unmeasured_job(job, "there was no data", None)
    if matched.inputs.streamed:
        return _unmeasured_job(job, "the models do not fit into memory together", job.data)
    from transfuse.report.measure import measure

    try:
        config = matched.anchor.config if matched.carry else read_config(local_directory(job.models[0], "allow"))
        data = matched.data if is_generated(job.data) else job.data
        samples = measured_samples(data, matched.options, type(matched.anchor).__name__, config)
        samples = samples.take(QUICK_LIMIT, job.seed)
        samples = replace(samples, samples=with_model_ids(config, samples.samples))
        return measure(matched, fusion.model, samples, progress, brief=True)
    except DataError as error:  # other data are needed
        return _unmeasured_job(job, str(error), None)
    except (TransfuseError, MemoryError, RuntimeError) as error:
        return _unmeasured_job(job, why_unmeasured(error), job.data)


def measured_quality(
    measured: Measurement,
    verdict: Callable[[Measurement], str] = verdict,
    calibrated: str = "the samples that were also used to make it",
) -> dict[str, Any]:
    """Return the verdict on a model with the samples, and the metrics of each model by its name.

    Args:
        verdict: says how good the model is.
        calibrated: what the samples are called if the model was made with them.
    """
    shared = f", {calibrated}" if measured.calibrated else ""
    return {
        "verdict": f"{verdict(measured)} Measured on {measured.amount} of {measured.samples_name}{shared}.",
        "models": {row.name: metrics_dict(row.metrics, measured.table_measures) for row in measured.rows},
    }


def training_quality(
    output: str, model: str, data: str, trained_split: str | None, options: Settings, progress: Progress
) -> dict[str, Any]:
    """Measure a fine-tuned model beside the model that it was, on a few samples of the training's data.

    Args:
        trained_split: the split that was trained on; None: the data have no splits.

    Returns:
        A sentence, and the metrics of both models; if nothing was measured, the reason and the command that measures.
    """

    def not_measured(reason: str) -> dict[str, Any]:
        return {"verdict": unmeasured([output, model], data, options, reason), "models": {}}

    try:
        found = evaluate_models([output, model], data, QUICK_LIMIT, progress=progress, **options.shared())
    except (TransfuseError, MemoryError, RuntimeError) as error:
        return not_measured(why_unmeasured(error))
    if found.compared is not None:
        return not_measured("there were no labels")
    measure = headline(found.measures)
    after, before = (phrase(measure, found.models[name].metrics.value(measure)) for name in (output, model))
    count = found.models[output].metrics.samples
    shared_data = ", the data of the training itself" if found.split == trained_split else ""
    measured = f"Measured on {count} {unit(found.measures)} of {with_split(data, found.split)}{shared_data}."
    models = {name: metrics_dict(entry.metrics, found.measures) for name, entry in found.models.items()}
    return {"verdict": f"The model reaches {after}; before, {before}. {measured}", "models": models}


def why_unmeasured(error: Exception) -> str:
    """Return why models could not be measured. Raise an error again that is neither the input's nor one of memory."""
    if isinstance(error, TransfuseError):
        return str(error)
    if is_out_of_memory(error):
        return "memory did not suffice"
    raise error


def unmeasured(models: Sequence[str], data: str | None, options: Settings, reason: str) -> str:
    """Return why models were not measured, and the command that measures them.

    Args:
        data: the samples; if they are None or generated, the command needs others.
        options: how the samples and the models are read.
    """
    has_data = data is not None and not is_generated(data)
    flags: list[str] = []
    for name in (*(DataOptions.model_fields if has_data else ()), "allow_pickle", "spec"):
        if (value := getattr(options, name)) not in (None, False):
            flag = f"--{name.replace('_', '-')}"
            flags += [flag] if value is True else [flag, str(value)]
    command = shlex.join(["transfuse", "eval", *models, "--data", str(data) if has_data else "DATA", *flags])
    return f"Not measured: {reason.rstrip('.')}. Measure it with: {command}"


def _unmeasured_job(job: Job, reason: str, data: str | None) -> dict[str, Any]:
    names = [str(Path(str(job.output))), *job.models]
    return {"verdict": unmeasured(names, data, job, reason), "models": {}}
