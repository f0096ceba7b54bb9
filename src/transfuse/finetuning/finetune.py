"""Fine-tune a model, fused or not, on labels, on what other models say, or on both: transformers' Trainer does it."""

import copy
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel, PrinterCallback, TrainerState

from transfuse.base.budget import samples_at_once, tokens_per_sample
from transfuse.base.libraries import quiet
from transfuse.base.lock import folder_lock
from transfuse.base.progress import Progress, silent
from transfuse.checkpoint.card import finetuned_card
from transfuse.checkpoint.finite import check_finite
from transfuse.checkpoint.leftovers import file_record
from transfuse.checkpoint.load import load_model, local_directory
from transfuse.checkpoint.output import Overwrite, write_json
from transfuse.checkpoint.owned import RUN_FILE, json_or_none
from transfuse.checkpoint.save import model_writer, save_checkpoint
from transfuse.checkpoint.sentences import check_sentence_modules
from transfuse.config.options import make
from transfuse.data.samples import Samples, load_samples
from transfuse.data.splits import CALIBRATION
from transfuse.data.tasks import Task, check_measurable, model_processor, task, with_model_ids
from transfuse.errors import ConfigError
from transfuse.finetuning.schedule import Schedule, check_teacher_options
from transfuse.finetuning.trainer import (
    DistillationTrainer,
    ProgressCallback,
    TrainingDataset,
    micro_batch_size,
    optimizer_steps,
    training_arguments,
)
from transfuse.fusion.record import PACKAGES, Origin, origin
from transfuse.network.compatible import check_same_labels
from transfuse.network.precision import stored_as

SHORT = 512  # tokens; of longer samples, eager attention takes too much memory
SIZES = ("num_labels", "vocab_size", "image_size", "num_channels")  # of what a model is asked and answers
IS_MAIN_PROCESS = os.environ.get("RANK", "0") == "0"  # of several processes, the one that writes
Model: TypeAlias = str | Path | PreTrainedModel


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model, and how it came about.

    Attributes:
        model: in evaluation mode, on the CPU, in the precision it had before.
        record: what `transfuse.json` will hold: model, teachers, data, schedule, losses, versions.
        processor: what is saved with it; None: the one in the model's directory.
        loaded: folders that models in memory were loaded from; they are not written over.
    """

    model: PreTrainedModel
    record: dict[str, Any]
    processor: Any = None
    loaded: tuple[str, ...] = ()

    def save(self, path: str | Path, overwrite: Overwrite = "refuse") -> Path:
        """Write the checkpoint, its model card and `transfuse.json`, verified by reloading; all at once, or nothing.

        Args:
            overwrite: `refuse` a folder that is not empty, or `replace` it if it holds a model and nothing else.

        Raises:
            OutputError: `path` is not empty (unless replaced), not writable, an input, or the disk is full.
        """
        card = {"README.md": finetuned_card(Path(path).name, self.record)}
        inputs = [each["path"] for each in (self.record["finetuned"], *self.record["teachers"])]
        write = model_writer(self.model, inputs[0])
        return save_checkpoint(Path(path), overwrite, write, inputs, self.processor, self.record, card, self.loaded)


def finetune(
    model: Model,
    data: Any,
    teachers: Sequence[Model] = (),
    progress: Progress = silent,
    processor: Any = None,
    checkpoints: Path | None = None,
    resume: str | None = None,
    **options: Any,
) -> Finetuned:
    """Train `model` a little longer.

    Args:
        model: a checkpoint directory, a hub name or a loaded model, which is left as it is.
        data: training samples: a path, a `datasets.Dataset` or `Samples`. Labelled, unless `distill` is 1 and `trust`
            is not `labels`.
        teachers: models of the same task and classes whose mean probabilities are learned from.
        processor: prepares the samples; None: the one in the model's directory.
        checkpoints: where the state goes from time to time, so that a run can be resumed; None: nowhere.
        resume: the checkpoint to go on from.
        options: fields of `Schedule`: epochs, learning_rate, batch_size, augment, distill, trust, temperature, ...

    Raises:
        TransfuseError: an input that cannot be trained with; the message says what, where and what to do.
    """
    schedule = _checked(model, teachers, options)
    check_sentence_modules([model])
    loaded = [_trainable(each, schedule) for each in (model, *teachers)]
    learner, does = loaded[0], task(type(loaded[0]).__name__)
    check_measurable(learner.config, type(learner).__name__)
    _check_teachers(model, learner, list(zip(teachers, loaded[1:], strict=True)), does)
    samples = training_samples(data, does, schedule, bool(teachers)).take(schedule.samples, schedule.seed)
    samples = with_model_ids(learner.config, samples)
    if samples.image is None and schedule.augment != "none":
        raise ConfigError("augment: only images can be augmented; leave it out")
    origins = [origin(*each) for each in zip((model, *teachers), loaded, strict=True)]
    run = _run(origins, samples, schedule)
    prepare = partial(does.preparer, model_processor(model, learner, processor), learner.config)
    with _alone(checkpoints):
        if checkpoints:
            check_same_run(checkpoints, run, resume)
        found, state = _trained(loaded, TrainingDataset(samples, prepare, schedule), progress, checkpoints, resume)
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    losses = [(each["step"], each["loss"]) for each in state.log_history if "loss" in each]
    left = file_record(None if isinstance(model, PreTrainedModel) else local_directory(model, "allow"))
    record = run | {"steps": state.global_step, "losses": losses, "versions": versions} | left
    return Finetuned(found, record, processor, tuple(each.folder for each in origins if each.folder))


@contextmanager
def _alone(checkpoints: Path | None) -> Iterator[None]:
    """Hold the state of a run, for the run's first process. Raises `OutputError` where another run holds it."""
    if checkpoints is None or not IS_MAIN_PROCESS:
        yield
        return
    checkpoints.mkdir(parents=True, exist_ok=True)
    with folder_lock(checkpoints, str(checkpoints)):
        yield


def _checked(model: Model, teachers: Sequence[Model], options: dict[str, Any]) -> Schedule:
    schedule: Schedule = make(Schedule, options)
    if isinstance(teachers, str | Path | PreTrainedModel):
        raise ConfigError("teachers: give a list, of one too")
    for each in (model, *teachers):
        if not isinstance(each, str | Path | PreTrainedModel):
            raise ConfigError(f"{each!r}: give a checkpoint's path or a loaded transformers model")
    check_teacher_options(options, teachers, {})
    if schedule.torch_device().type == "cuda" and torch.cuda.device_count() > 1 and "RANK" not in os.environ:
        raise ConfigError("several GPUs: start one process each with torchrun, or choose one by CUDA_VISIBLE_DEVICES")
    return schedule


def _run(origins: Sequence[Origin], samples: Samples, schedule: Schedule) -> dict[str, Any]:
    """What makes a run the one it is."""
    return {
        "finetuned": origins[0].as_dict(),
        "teachers": [each.as_dict() for each in origins[1:]],
        "data": samples.source,
        "samples": len(samples),
        "schedule": schedule.model_dump(mode="json"),
    }


def check_same_run(checkpoints: Path, run: dict[str, Any], resume: str | None) -> None:
    """Leave a note of the run beside its state; raise `ConfigError` where the state there is another run's."""
    note = checkpoints / RUN_FILE
    if not resume:
        if note.is_file() and any(checkpoints.glob("checkpoint-*")) and json_or_none(note) != run:
            raise ConfigError(f"{checkpoints}: holds the state of another run; resume or remove it")
        checkpoints.mkdir(parents=True, exist_ok=True)
        write_json(note, run)
        return
    noted = json_or_none(note)
    before = noted if isinstance(noted, dict) else {}
    if differing := [name for name, value in run.items() if before.get(name) != value]:
        raise ConfigError(
            f"--resume: the state in {checkpoints} is of a run that differs in: {', '.join(differing)}; go on with the"
            " same options, or remove it"
        )


def _trained(
    loaded: Sequence[PreTrainedModel],
    feed: TrainingDataset,
    progress: Progress,
    checkpoints: Path | None,
    resume: str | None,
) -> tuple[PreTrainedModel, TrainerState]:
    """The first model, changed in nothing but its weights; the others teach it."""
    dtype, attention = loaded[0].dtype, loaded[0].config._attn_implementation
    learner, *teachers = (each.float() for each in loaded)
    if resume:  # the Trainer itself looks for weights by their names in memory, which are not always those on disk
        learner.load_state_dict(load_model(resume).state_dict())
    bar = ProgressCallback(progress.track(range(optimizer_steps(feed.schedule, len(feed))), "fine-tuning"), feed)
    example = feed.prepare(feed.samples.inputs([feed.samples.longest_index()]))
    fitting = samples_at_once(learner, example, feed.schedule.batch_size, gradients=True)
    with TemporaryDirectory() as scratch, quiet():
        args = training_arguments(
            feed.schedule, len(feed), micro_batch_size(feed.schedule, fitting), checkpoints, Path(scratch)
        )
        if (
            args.use_cpu and tokens_per_sample(learner.config, example) <= SHORT
        ):  # where eager attention trains faster than sdpa
            for model in (learner, *teachers):
                model.set_attn_implementation("eager")
        trainer = DistillationTrainer(
            teachers,
            feed.schedule,
            model=learner,
            args=args,
            train_dataset=feed,
            data_collator=feed.collate,
            callbacks=[bar],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=resume)
        found = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    check_finite(found.state_dict(), "the fine-tuned model")
    found.set_attn_implementation(attention)
    return stored_as(dtype, found.to("cpu")).eval(), trainer.state


def training_samples(data: Any, does: Task, schedule: Schedule, taught: bool) -> Samples:
    """The samples to train on, with labels where the loss has any use for them."""
    samples = data if isinstance(data, Samples) else load_samples(data, CALIBRATION)
    if taught and schedule.distill == 1 and schedule.teacher_weighting != "labels":
        return replace(does.samples(samples), label=None)
    return does.labeled(samples)


def _trainable(given: Model, schedule: Schedule) -> PreTrainedModel:
    """The model itself, to be changed."""
    if isinstance(given, PreTrainedModel):
        return copy.deepcopy(given)
    return load_model(given, pickle=schedule.pickle_policy())


def _check_teachers(
    given: Model, model: PreTrainedModel, teachers: Sequence[tuple[Model, PreTrainedModel]], does: Task
) -> None:
    """Raise where a teacher answers another question, or is asked it in other terms."""
    for name, teacher in teachers:
        label = "a teacher" if isinstance(name, PreTrainedModel) else str(name)
        check_same_labels(model.config, teacher.config, label)
        if any(getattr(model.config, size, 0) != getattr(teacher.config, size, 0) for size in SIZES):
            raise ConfigError(f"{label}: its classes, words or images are not the model's; choose another teacher")
        lengths = [getattr(each.config, "max_position_embeddings", 0) for each in (model, teacher)]
        if lengths[1] < lengths[0]:
            raise ConfigError(f"{label}: takes {lengths[1]} tokens, the model {lengths[0]}; choose another teacher")
        if task(type(teacher).__name__) is not does:
            raise ConfigError(f"{label}: is a {type(teacher).__name__} and cannot teach a {type(model).__name__}")
        if isinstance(name, PreTrainedModel) or isinstance(given, PreTrainedModel):
            continue
        ours, theirs = (
            does.settings(does.load(local_directory(path, "allow"), each.config))
            for path, each in ((given, model), (name, teacher))
        )
        if ours != theirs:
            raise ConfigError(
                f"{label}: its {does.processor} prepares samples otherwise than the model's; choose a teacher that"
                " takes the same inputs"
            )
