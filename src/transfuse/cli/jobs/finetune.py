"""The work of `transfuse finetune`."""

import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from transfuse.base.budget import check_free_memory
from transfuse.base.folders import remove_empty
from transfuse.base.lock import output_lock
from transfuse.base.progress import Progress
from transfuse.checkpoint.load import load_empty
from transfuse.checkpoint.output import check_target
from transfuse.checkpoint.owned import RUN_STATE
from transfuse.cli.jobs.inspection import check_checkpoints
from transfuse.cli.validation import TrainingTarget
from transfuse.data.tasks import check_measurable, task
from transfuse.errors import OutputError
from transfuse.finetuning.finetune import IS_MAIN_PROCESS, finetune, training_samples
from transfuse.finetuning.schedule import Schedule
from transfuse.fusion.plan import FLOAT32_BYTES

TRAINED = 5  # numbers for each weight that is trained: itself as loaded, its gradient, two moments, a copy to write


def finetune_job(
    models: Sequence[str], data: str, schedule: Schedule, target: TrainingTarget, progress: Progress
) -> tuple[Path, dict[str, Any]]:
    """Fine-tune the first of `models`, the others its teachers, and save. Returns output and record.

    The state of the run is removed once the model is written.
    """
    with output_lock(target.output) if IS_MAIN_PROCESS else nullcontext():
        return _finetune_job(models, data, schedule, target, progress)


def _finetune_job(
    models: Sequence[str], data: str, schedule: Schedule, target: TrainingTarget, progress: Progress
) -> tuple[Path, dict[str, Any]]:
    start = time.perf_counter()
    inputs = [*models, *(path for path in (data, schedule.spec) if path and Path(path).expanduser().exists())]
    check_target(target.output, target.overwrite, [Path(each) for each in inputs])
    if target.resume is None and any(target.checkpoints.glob("checkpoint-*")):
        raise OutputError(f"{target.checkpoints}: a run was cut short here; go on with --resume, or remove it")
    device = schedule.torch_device()
    kind, *_ = check_checkpoints(models, schedule, check_measurable)
    model, *teachers = models
    sizes = [load_empty(name, pickle=schedule.pickle_policy()).num_parameters() for name in models]
    check_free_memory(FLOAT32_BYTES * (TRAINED * sizes[0] + sum(sizes[1:])), device, "fine-tuning", progress.warn)
    samples = training_samples(data, task(kind), schedule, bool(teachers))
    state = target.checkpoints
    options = schedule.model_dump(exclude_unset=True)
    try:
        tuned = finetune(model, samples, teachers, progress, checkpoints=state, resume=target.resume, **options)
    except BaseException:
        if not any(state.glob("checkpoint-*")):
            _forget(state)
        raise
    record = tuned.record | {"data": data, "seconds": round(time.perf_counter() - start, 2)}
    if PartialState().is_main_process:
        replace(tuned, record=record).save(target.output, target.overwrite)
        _forget(state)
    return target.output, record


def _forget(state: Path) -> None:
    """Remove the state of a run, and nothing else that came to lie there."""
    for path in state.glob("*"):
        if not RUN_STATE.fullmatch(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    remove_empty([state])
