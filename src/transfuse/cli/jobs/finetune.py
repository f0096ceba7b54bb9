"""Run `transfuse finetune`."""

import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from transfuse.base.budget import FLOAT_BYTES, check_free_memory
from transfuse.base.folders import remove_empty
from transfuse.base.progress import Progress
from transfuse.base.rank import is_first_process
from transfuse.checkpoint.reading.load import load_empty
from transfuse.checkpoint.writing.locked_output import locked_output
from transfuse.checkpoint.writing.output import check_outside, check_target
from transfuse.checkpoint.writing.owned import RUN_STATE
from transfuse.cli.jobs.inspection import check_checkpoints
from transfuse.cli.jobs.quality import training_quality
from transfuse.cli.jobs.report_files import after_writing
from transfuse.cli.jobs.work import removed_once_written
from transfuse.cli.jobs.written import Written
from transfuse.cli.targets import TrainingTarget, interrupted_run, local_paths
from transfuse.config.finetune_options import FinetuneOptions
from transfuse.data.measured_tasks import check_trainable
from transfuse.errors import DivergedError
from transfuse.finetuning.finetune import finetune, training_samples
from transfuse.finetuning.saved_state import complete_checkpoints, remove_incomplete

TRAINING_COPIES = 5  # numbers per trained weight: the loaded weight, its gradient, two moments, and a copy to write


def finetune_job(
    models: Sequence[str], data: str, options: FinetuneOptions, target: TrainingTarget, progress: Progress
) -> Written:
    """Fine-tune the first of `models`, with the others as teachers, and save the result.

    The training state is removed after the model is written.

    Raises:
        TransfuseError: an input cannot be used, memory does not suffice, or the output cannot be written.
    """
    with locked_output(target.output) if is_first_process() else nullcontext():
        return _finetune_job(models, data, options, target, progress)


def _finetune_job(
    models: Sequence[str], data: str, options: FinetuneOptions, target: TrainingTarget, progress: Progress
) -> Written:
    """Do the work of `finetune_job` while the output is locked."""
    start = time.perf_counter()
    check_target(target.output, target.overwrite, [*map(Path, models), *local_paths(data, options.spec)])
    check_outside(target.output, data)
    if target.resume is None and complete_checkpoints(target.checkpoints):
        raise interrupted_run(target.checkpoints)
    if is_first_process():
        remove_incomplete(target.checkpoints)
    device = options.torch_device()
    architecture, *_ = check_checkpoints(models, options, check_trainable)
    model, *teachers = models
    empty = [load_empty(name, pickle=options.pickle_policy()) for name in models]
    parameters = [each.num_parameters() for each in empty]
    weights = TRAINING_COPIES * parameters[0] + sum(parameters[1:])
    check_free_memory(FLOAT_BYTES * weights, device, "fine-tuning", progress.warn)
    samples, _ = training_samples(data, architecture, empty[0].config, options, bool(teachers))
    state = target.checkpoints
    given = options.model_dump(exclude_unset=True)
    try:
        finetuned = finetune(model, samples, teachers, progress, checkpoints=state, resume=target.resume, **given)
    except BaseException as error:
        if isinstance(error, DivergedError) or not complete_checkpoints(state):
            _remove_state(state)
        raise
    record = finetuned.record | {"data": data, "seconds": round(time.perf_counter() - start, 2)}
    if is_first_process():
        with removed_once_written(target.output, [state], _remove_state):
            replace(finetuned, record=record).save(target.output, target.overwrite)
        with after_writing(target.output, "measurements"):
            quality = training_quality(str(target.output), model, data, samples.split, options, progress)
        record |= {"quality": quality}
    return Written(target.output, record)


def _remove_state(state: Path) -> None:
    """Remove the training state from its folder, and the folder too if it has no other files."""
    for path in state.glob("*"):
        if not RUN_STATE.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    remove_empty([state])
