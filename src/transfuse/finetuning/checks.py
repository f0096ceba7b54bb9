"""Check options, that teachers fit the student, and that a resumed run has the options of the interrupted one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from transfuse.base.counted import counted
from transfuse.checkpoint.reading.given_models import check_given, wrapper_advice
from transfuse.checkpoint.reading.load import NO_MODEL, Model, model_name
from transfuse.checkpoint.record.origin import Origin
from transfuse.checkpoint.writing.output import write_json
from transfuse.checkpoint.writing.owned import RUN_FILE, json_or_none
from transfuse.config.finetune_options import FinetuneOptions, check_teacher_options
from transfuse.config.make import make
from transfuse.data.prepare import prepare_alike
from transfuse.data.samples import Samples
from transfuse.data.tasks import Task, task
from transfuse.errors import ConfigError
from transfuse.evaluation.subjects import differing_size
from transfuse.network.compatible import check_same_labels
from transfuse.network.output_losses import SOFTMAX, output_loss

OTHER_TEACHER = "choose another teacher"


def check_not_frozen(student: PreTrainedModel) -> None:
    """Raise `ConfigError` if no parameter of the model can be trained."""
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ConfigError(
            "model: all its parameters are frozen (requires_grad is False), so nothing can be trained; call"
            " model.requires_grad_(True), or unfreeze what is to be trained"
        )


def check_teachers(source: Model, student: PreTrainedModel, teachers: Sequence[tuple[Model, PreTrainedModel]]) -> None:
    """Check that teachers take the student's inputs and predict its classes, whose order may be another one.

    Args:
        source: the path of the student, or the student.
        teachers: the path of each teacher, or the teacher, and the loaded teacher.

    Raises:
        ConfigError: a teacher has other classes, tokens, images or a shorter maximum length, or prepares samples
            differently.
    """
    student_task = task(type(student).__name__)
    for path, teacher in teachers:
        label = teacher_name(path)
        if task(type(teacher).__name__) is not student_task:
            raise ConfigError(
                f"{label}: a {type(teacher).__name__} cannot teach a {type(student).__name__}; {OTHER_TEACHER}"
            )
        check_same_labels(student.config, teacher.config, type(teacher).__name__, label)
        if found := differing_size(student.config, teacher.config):
            name, expected, value = found
            raise ConfigError(f"{label}: its {name} is {value}, the model's is {expected}; {OTHER_TEACHER}")
        if output_loss(teacher) is not output_loss(student):
            raise ConfigError(f"{label}: its problem_type is not that of the model; {OTHER_TEACHER}")
        lengths = [getattr(model.config, "max_position_embeddings", 0) for model in (teacher, student)]
        if lengths[0] < lengths[1]:
            raise ConfigError(
                f"{label}: takes at most {counted(lengths[0], 'token')}, but the model takes {lengths[1]};"
                f" {OTHER_TEACHER}"
            )
        if not isinstance(path, PreTrainedModel) and not isinstance(source, PreTrainedModel):
            _check_processors(label, (source, student), (path, teacher), student_task)


def teacher_name(source: Model) -> str:
    """Return what to call a teacher in messages."""
    return "a teacher" if isinstance(source, PreTrainedModel) else str(source)


def check_loss_options(options: FinetuneOptions, student: PreTrainedModel) -> None:
    """Raise `ConfigError` for options that have no meaning for what a model predicts."""
    loss = output_loss(student)
    if options.label_smoothing and loss is not SOFTMAX:
        raise ConfigError("label_smoothing: the model does not predict one class of several; leave this option out")
    if options.temperature != 1 and loss.entropies is None:
        raise ConfigError("temperature: the model predicts numbers, not probabilities; leave this option out")


def _check_processors(
    label: str,
    student: tuple[str | Path, PreTrainedModel],
    teacher: tuple[str | Path, PreTrainedModel],
    student_task: Task,
) -> None:
    """Raise `ConfigError` unless both checkpoints prepare samples alike."""
    if not prepare_alike(student_task, student, teacher):
        raise ConfigError(
            f"{label}: the settings of its {student_task.processor} differ from the model's; choose a teacher that"
            " takes the same inputs"
        )


def describe_run(origins: Sequence[Origin], samples: Samples, options: FinetuneOptions) -> dict[str, Any]:
    """Return the inputs and options that identify a run. `origins` starts with the student."""
    return {
        "finetuned": origins[0].as_dict(),
        "teachers": [teacher.as_dict() for teacher in origins[1:]],
        "data": samples.source,
        "split": samples.split,
        "samples": len(samples),
        "schedule": options.model_dump(mode="json"),
    }


def start_run(checkpoints: Path, description: dict[str, Any]) -> None:
    """Write the description of a run to the folder of its training state.

    Raises:
        ConfigError: the folder holds the state of another run.
        OutputError: the folder is not writable.
    """
    file = checkpoints / RUN_FILE
    if file.is_file() and json_or_none(file) == description:
        return
    if file.is_file() and any(checkpoints.glob("checkpoint-*")):
        raise ConfigError(f"{checkpoints}: holds the state of another run; resume that run, or remove the folder")
    checkpoints.mkdir(parents=True, exist_ok=True)
    write_json(file, description)


def check_same_run(state: Path, description: dict[str, Any]) -> None:
    """Raise `ConfigError` if a training state belongs to a run with other inputs or options."""
    before = json_or_none(state.parent / RUN_FILE)
    if not isinstance(before, dict):
        raise ConfigError(f"{state}: no {RUN_FILE} beside it says what was trained; train again from the start")
    if differing := [name for name, value in description.items() if before.get(name) != value]:
        raise ConfigError(
            f"--resume: the run whose state is in {state.parent} differs in: {', '.join(differing)}; repeat its"
            " options, or remove the folder"
        )


def checked_options(model: Model, teachers: Sequence[Model], options: dict[str, Any]) -> FinetuneOptions:
    """Return the options of fine-tuning. Raise `ConfigError` for invalid arguments of `finetune`."""
    chosen: FinetuneOptions = make(FinetuneOptions, options)
    if isinstance(teachers, str) or not isinstance(teachers, Sequence):
        raise ConfigError("teachers: give a list, even for a single teacher")
    for source in (model, *teachers):
        if not isinstance(source, str | Path | PreTrainedModel):
            raise ConfigError(f"model: {NO_MODEL}, not a {type(source).__name__}{wrapper_advice(source)}")
    check_given([model], [model_name(model, "the model")])
    check_given(teachers, [*map(teacher_name, teachers)])
    check_teacher_options(options, teachers)
    if chosen.torch_device().type == "cuda" and torch.cuda.device_count() > 1 and "RANK" not in os.environ:
        raise ConfigError(
            "several GPUs: start one process per GPU with torchrun, or set CUDA_VISIBLE_DEVICES to one GPU"
        )
    return chosen
