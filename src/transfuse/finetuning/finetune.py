"""Fine-tune a model with transformers' Trainer on labels, on the outputs of teachers, or on both."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PrinterCallback, TrainerState

from transfuse.base.budget import samples_at_once, tokens_per_sample
from transfuse.base.libraries import quiet
from transfuse.base.lock import folder_lock
from transfuse.base.progress import Progress, as_progress, silent
from transfuse.base.rank import is_first_process
from transfuse.base.torch_settings import kept_random_states, own_torch_settings
from transfuse.checkpoint.reading.finite import check_finite
from transfuse.checkpoint.reading.load import Model, load_model
from transfuse.checkpoint.reading.sentences import check_sentence_modules
from transfuse.checkpoint.record.origin import origin, run_facts
from transfuse.checkpoint.writing.output import full_disk_said
from transfuse.config.finetune_options import FinetuneOptions
from transfuse.data.files.splits import CALIBRATION
from transfuse.data.load import open_samples, warn_of_test_split
from transfuse.data.measured_tasks import check_trainable, labeled_task
from transfuse.data.processors import loaded_processor, model_processor
from transfuse.data.sample_digest import content_digest
from transfuse.data.samples import Samples
from transfuse.data.tasks import SEQUENCE_TO_SEQUENCE, Task, task, with_model_ids
from transfuse.data.text.blocks import in_blocks
from transfuse.data.text.texts import masked_preparer
from transfuse.distillation.teacher_weighting import ineffective_weighting
from transfuse.errors import ConfigError, DivergedError, NoLabelsError, NotFiniteError
from transfuse.finetuning.checks import (
    check_loss_options,
    check_not_frozen,
    check_same_run,
    check_teachers,
    checked_options,
    describe_run,
    start_run,
    teacher_name,
)
from transfuse.finetuning.result import Finetuned
from transfuse.finetuning.saved_state import training_state
from transfuse.finetuning.trainer import (
    DistillationTrainer,
    ProgressCallback,
    TrainingDataset,
    optimizer_steps,
    set_micro_batch,
    training_arguments,
)
from transfuse.network.class_order import order_logits, warn_of_order
from transfuse.network.output_losses import output_loss
from transfuse.network.precision import stored_as
from transfuse.network.token_ids import copy_padding_token
from transfuse.network.unsaved import freeze_unsaved

MAX_EAGER_TOKENS = 512  # with longer samples, eager attention takes too much memory


@own_torch_settings()
def finetune(
    model: Model,
    data: Any,
    teachers: Sequence[Model] | None = None,
    progress: Progress | bool = silent,
    processor: Any = None,
    checkpoints: str | Path | None = None,
    resume: str | Path | None = None,
    **options: Any,
) -> Finetuned:
    """Train a model further.

    Args:
        model: a checkpoint directory, a Hub name or a loaded model, which is not changed. Parameters of a loaded model
            that require no gradient keep their values.
        data: training samples, of the kinds that `fuse` takes: a path, a list of texts, of PIL images or of dicts, a
            pandas `DataFrame`, a dataset of `datasets`, or `Samples`. They must be labeled, unless `distill` is 1 and
            `teacher_weighting` is not `labels`.
        teachers: models of the same task and classes, in any order. The model learns the weighted mean of what they
            predict (Hinton et al., arXiv:1503.02531). None: it learns from labels alone.
        progress: shows progress; True: on the terminal or in the notebook. Silent by default.
        processor: prepares the samples; None: the processor in the model's directory.
        checkpoints: the folder that the training state is saved to during the run, so that it can be resumed; None:
            the state is not saved.
        resume: the training state to resume from, a folder `checkpoint-N` of `checkpoints`. The run must be the same.
        options: fields of `FinetuneOptions`: epochs, learning_rate, batch_size, augment, distill, ...

    Returns:
        The fine-tuned model; its `save` writes the checkpoint.

    Raises:
        DiskFullError: there is no space left for the training state.
        DivergedError: the weights became NaN or infinite; the state in `checkpoints` is of no use.
        TransfuseError: an input cannot be used; the message says what, where and what to do.
    """
    warn_of_test_split(data)
    progress = as_progress(progress)
    teachers = () if teachers is None else teachers
    chosen = checked_options(model, teachers, options)
    checkpoints = None if checkpoints is None else Path(checkpoints)
    saved = None if resume is None else training_state(resume)
    check_sentence_modules([model])
    loaded = _checked_models(model, teachers, chosen, progress)
    student = freeze_unsaved(loaded[0])
    samples, student_task = training_samples(data, type(student).__name__, student.config, chosen, bool(teachers))
    samples = with_model_ids(student.config, samples.take(chosen.samples, chosen.seed))
    processor = loaded_processor(processor, student)
    samples = in_blocks(samples, student, model, processor, chosen, progress)
    if samples.image is None and chosen.augment != "none":
        raise ConfigError("augment: only images can be augmented; leave it out")
    origins = [origin(source, copied) for source, copied in zip((model, *teachers), loaded, strict=True)]
    description = describe_run(origins, samples, chosen)
    preparer = partial(student_task.preparer, model_processor(model, student, processor), student.config)
    run = description | ({"content of the data": content_digest(samples)} if checkpoints or saved else {})
    with _state_lock(checkpoints):
        if saved:
            check_same_run(saved, run)
        if checkpoints:
            start_run(checkpoints, run)
        dataset = TrainingDataset(samples, preparer, chosen, masks=student_task.preparer is masked_preparer)
        copy_padding_token(student, loaded[1:])
        try:
            trained, state = _train(student, loaded[1:], dataset, progress, checkpoints, saved)
        except NotFiniteError as error:
            rate = f"learning_rate: with {chosen.learning_rate:g}, weights became NaN or infinite"
            raise DivergedError(f"{rate}; give a lower rate") from error
    record = description | {
        "finetuned": origins[0].entry(),
        "steps": state.global_step,
        "losses": [(entry["step"], entry["loss"]) for entry in state.log_history if "loss" in entry],
        **run_facts(model),
    }
    return Finetuned(trained, record, processor, tuple(entry.folder for entry in origins if entry.folder))


def _checked_models(
    model: Model, teachers: Sequence[Model], options: FinetuneOptions, progress: Progress
) -> list[PreTrainedModel]:
    """Return the student and its teachers, which may be changed, with their classes in one order.

    Raises:
        TransfuseError: the student cannot be trained, or not on the outputs of these teachers.
    """
    loaded = [_load_copy(source, options) for source in (model, *teachers)]
    student = loaded[0]
    check_trainable(student.config, type(student).__name__)
    check_not_frozen(student)
    check_teachers(model, student, list(zip(teachers, loaded[1:], strict=True)))
    check_loss_options(options, student)
    for source, teacher in zip(teachers, loaded[1:], strict=True):
        warn_of_order(student.config, teacher, teacher_name(source), progress, "the model")
        order_logits(student.config, teacher)
    if teachers and (line := ineffective_weighting(options.teacher_weighting, output_loss(student))):
        progress.warn(line)
    return loaded


@contextmanager
def _state_lock(checkpoints: Path | None) -> Iterator[None]:
    """Lock the folder of the training state, in the first process of a run.

    Raises:
        OutputError: another run has the lock.
    """
    if checkpoints is None or not is_first_process():
        yield
        return
    checkpoints.mkdir(parents=True, exist_ok=True)
    with folder_lock(checkpoints, str(checkpoints)):
        yield


def _train(
    student: PreTrainedModel,
    teachers: Sequence[PreTrainedModel],
    dataset: TrainingDataset,
    progress: Progress,
    checkpoints: Path | None,
    saved: Path | None,
) -> tuple[PreTrainedModel, TrainerState]:
    """Train the student in float32, and return it in its original precision with the final state of the Trainer."""
    dtype = student.dtype
    attention = student.config._attn_implementation
    models = [student.float(), *(teacher.float() for teacher in teachers)]
    if saved:  # the Trainer expects the names of weights in memory, which may differ from those on disk
        student.load_state_dict(load_model(saved).state_dict())
    options = dataset.options
    steps = progress.track(range(optimizer_steps(options, len(dataset))), "fine-tuning")
    example = dataset.prepare(dataset.samples.inputs([dataset.samples.longest_index()]))
    with TemporaryDirectory() as scratch, quiet(), kept_random_states():
        args = training_arguments(options, len(dataset), checkpoints, Path(scratch))
        if args.use_cpu and tokens_per_sample(student.config, example) <= MAX_EAGER_TOKENS:
            for model in models:  # on a CPU, eager attention trains faster than sdpa
                model.set_attn_implementation("eager")
        student.to(args.device)  # whose free memory counts
        set_micro_batch(args, options, samples_at_once(student, example, options.batch_size, gradients=True))
        trainer = DistillationTrainer(
            models[1:],
            options,
            model=student,
            args=args,
            train_dataset=dataset,
            data_collator=dataset.collate,
            callbacks=[ProgressCallback(steps, dataset)],
        )
        trainer.remove_callback(PrinterCallback)
        with full_disk_said(Path(args.output_dir)):
            trainer.train(resume_from_checkpoint=str(saved) if saved else None)
        trained = trainer.accelerator.unwrap_model(trainer.model_wrapped, keep_fp32_wrapper=False)
    check_finite(trained.state_dict(), "the fine-tuned model")
    trained.set_attn_implementation(attention)
    return stored_as(dtype, trained.to("cpu")).eval(), trainer.state


def training_samples(
    data: Any, architecture: str, config: PreTrainedConfig, options: FinetuneOptions, has_teachers: bool
) -> tuple[Samples, Task]:
    """Return the training samples, with labels only if the loss uses them, and how they are prepared.

    What a decoder should write is read if the data have it, since teachers predict it too.

    Args:
        architecture: name of the student's class.

    Raises:
        DataError: the samples cannot be read, or they have no labels and the loss needs them.
    """
    samples = open_samples(data, options, CALIBRATION)
    labeled = labeled_task(architecture, config)
    if not has_teachers or options.distill < 1 or options.teacher_weighting == "labels":
        return labeled.labeled(samples), labeled
    if labeled is SEQUENCE_TO_SEQUENCE:
        with suppress(NoLabelsError):
            return labeled.labeled(samples), labeled
    unlabeled = task(architecture)
    return replace(unlabeled.samples(samples), label=None), unlabeled


def _load_copy(source: Model, options: FinetuneOptions) -> PreTrainedModel:
    """Return a model that may be changed: the loaded checkpoint, or a copy of a model in memory."""
    if isinstance(source, PreTrainedModel):
        return copy.deepcopy(source)
    return load_model(source, pickle=options.pickle_policy())
