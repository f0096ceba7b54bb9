"""Fine-tune a model, fused or not, on labels, on what other models say, or on both: transformers' Trainer does it."""

import copy
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import torch
from transformers import PreTrainedModel, PrinterCallback

from transfuse.config import make
from transfuse.errors import ConfigError
from transfuse.io.checkpoint import check_finite, load_model, local_directory
from transfuse.io.data import Samples, load_samples
from transfuse.io.output import Overwrite
from transfuse.io.quiet import quiet
from transfuse.io.splits import CALIBRATION
from transfuse.network.compatible import check_same_answers
from transfuse.progress import Progress, silent
from transfuse.report.card import finetuned_card
from transfuse.report.record import PACKAGES, Origin, origin
from transfuse.saving import save_checkpoint
from transfuse.schedule import Schedule
from transfuse.tasks import Task, task
from transfuse.trainer import Bar, Distiller, Feed, arguments

SIZES = ("num_labels", "vocab_size")  # of what a model answers
Model: TypeAlias = str | Path | PreTrainedModel


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned model, and how it came about.

    Attributes:
        model: in evaluation mode, on the CPU, in the precision it had before.
        record: what `transfuse.json` will hold: model, teachers, data, schedule, losses, versions.
    """

    model: PreTrainedModel
    record: dict[str, Any]
    origins: tuple[Origin, ...]
    processor: Any = None

    def save(self, path: str | Path, overwrite: Overwrite = "refuse") -> Path:
        """Write it as `saving.save_checkpoint` does.

        Raises:
            OutputError: `path` is not empty (unless replaced), not writable, an input, or the disk is full.
        """
        card = finetuned_card(Path(path).name, self.record)
        inputs = [each.path for each in self.origins]
        return save_checkpoint(Path(path), overwrite, self.model, inputs, self.processor, self.record, card)


def finetune(
    model: Model, data: Any, teachers: Sequence[Model] = (), progress: Progress = silent, processor: Any = None,
    checkpoints: Path | None = None, resume: str | None = None, **options: Any,
) -> Finetuned:  # fmt: skip
    """Train `model` a little longer.

    Args:
        model: a checkpoint directory, a hub name or a loaded model, which is left as it is.
        data: training samples, labelled unless `distill` is 1: a path, a `datasets.Dataset` or `Samples`.
        teachers: models of the same task and classes whose mean probabilities are learned from.
        processor: prepares the samples; None: the one in the model's directory.
        checkpoints: where the state goes from time to time, so that a run can be resumed; None: nowhere.
        resume: the checkpoint to go on from.
        options: fields of `Schedule`: epochs, learning_rate, batch_size, augment, distill, temperature, ...

    Raises:
        TransfuseError: an input that cannot be trained with; the message says what, where and what to do.
    """
    schedule: Schedule = make(Schedule, options)
    device = schedule.torch_device()
    loaded = [_trainable(each, schedule, device) for each in (model, *teachers)]
    learner, does = loaded[0], task(type(loaded[0]).__name__)
    _check_teachers(model, learner, list(zip(teachers, loaded[1:], strict=True)), does)
    samples = training_samples(data, does, schedule, bool(teachers)).take(schedule.samples, schedule.seed)
    samples = samples.aligned_to(learner.config.id2label) if samples.label else samples
    prepare = does.preparer(_processor(model, learner, does, processor), learner.config)
    origins = tuple(origin(given, each) for given, each in zip((model, *teachers), loaded, strict=True))
    dtype = learner.dtype
    if resume:  # the Trainer itself looks for weights by their names in memory, which are not always those on disk
        learner.load_state_dict(load_model(resume).state_dict())
    feed = Feed(samples, prepare, schedule)
    bar = Bar(progress.track(range(ceil(len(feed) / schedule.batch_size * schedule.epochs)), "fine-tuning"))
    learner = _trained(learner.float(), loaded[1:], feed, bar, checkpoints, resume).to("cpu", dtype).eval()
    check_finite(learner.state_dict(), "the fine-tuned model")
    record = {
        "finetuned": asdict(origins[0]),
        "teachers": [asdict(each) for each in origins[1:]],
        "data": samples.source,
        "samples": len(feed),
        "schedule": schedule.model_dump(mode="json"),
        "steps": bar.done,
        "losses": bar.losses,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }
    return Finetuned(learner, record, origins, processor)


def _trained(
    learner: PreTrainedModel, teachers: Sequence[PreTrainedModel], feed: Feed, bar: Bar, checkpoints: Path | None,
    resume: str | None,
) -> PreTrainedModel:  # fmt: skip
    """The same model, changed."""
    with TemporaryDirectory() as scratch, quiet():
        trainer = Distiller(
            [teacher.float() for teacher in teachers],
            feed.schedule,
            model=learner,
            args=arguments(feed.schedule, len(feed), checkpoints, Path(scratch)),
            train_dataset=feed,
            data_collator=feed.collate,
            callbacks=[bar],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=resume)
        return trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)


def training_samples(data: Any, does: Task, schedule: Schedule, taught: bool) -> Samples:
    """The samples to train on, with labels where the loss has any use for them."""
    samples = data if isinstance(data, Samples) else load_samples(data, CALIBRATION)
    return (does.samples if taught and schedule.distill == 1 else does.labelled)(samples)


def _trainable(given: Model, schedule: Schedule, device: torch.device) -> PreTrainedModel:
    """The model itself, to be changed; on a CPU with eager attention, which trains faster there than sdpa."""
    if isinstance(given, PreTrainedModel):
        model = copy.deepcopy(given)
    else:
        model = load_model(given, pickle=schedule.pickle_policy())
    if device.type == "cpu":
        model.set_attn_implementation("eager")
    return model


def _processor(given: Model, model: PreTrainedModel, does: Task, processor: Any) -> Any:
    if processor is None and isinstance(given, PreTrainedModel):
        raise ConfigError(f"data: a loaded model has no {does.processor}; pass processor=..., or the model's path")
    return processor or does.load(local_directory(given, "allow"), model.config)


def _check_teachers(
    given: Model, model: PreTrainedModel, teachers: Sequence[tuple[Model, PreTrainedModel]], does: Task
) -> None:
    """Raise where a teacher answers another question, or is asked it in other terms."""
    for name, teacher in teachers:
        label = "a teacher" if isinstance(name, PreTrainedModel) else str(name)
        check_same_answers(model.config, teacher.config, label)
        if any(getattr(model.config, size, 0) != getattr(teacher.config, size, 0) for size in SIZES):
            raise ConfigError(f"{label}: does not have the model's classes or words; choose another teacher")
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
