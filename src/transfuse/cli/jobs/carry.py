"""Run `transfuse carry`. Cheap checks come before models are loaded."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfuse.base.distributed import check_one_process
from transfuse.base.memory_limit import planned_limit
from transfuse.base.progress import Progress
from transfuse.base.timing import peak_bytes
from transfuse.checkpoint.writing.locked_output import locked_output
from transfuse.cli.jobs.fuse import written_after
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible, check_mapped_sizes
from transfuse.cli.jobs.report import DEFAULT_LIMIT, samples_to_measure
from transfuse.cli.jobs.written import Written
from transfuse.config.job import Job
from transfuse.data.text.generation import calibration_samples
from transfuse.fusion.carrying.carry import carried
from transfuse.fusion.carrying.match import match_for_carry
from transfuse.fusion.carrying.plan import carry_plan
from transfuse.fusion.planning.plan import FusionPlan
from transfuse.report.carried import carried_verdict


def plan_job(job: Job, keep: str | None, progress: Progress) -> FusionPlan:
    """Return what carrying a fine-tune would match and require. Nothing is computed or written.

    Args:
        progress: is told about processors that differ.

    Raises:
        TransfuseError: an input cannot be used, or `max_memory` bytes do not suffice.
    """
    *_, tuned_class = check_checkpoints(job.models, job, check_fusible)
    new_base, base, tuned = job.models
    if job.maps is not None:
        check_mapped_sizes([new_base, base], job)
    data, kept = (calibration_samples(name, tuned_class, job) for name in (job.data, keep))
    with planned_limit(job.max_memory):
        return carry_plan(base, tuned, new_base, data, kept, job.max_memory, progress, **job.options())


def carry_job(job: Job, keep: str | None, progress: Progress) -> Written:
    """Carry a fine-tune to another base, and save the result.

    Args:
        job: its models are the new base, the base and the tuned model.
        keep: where the samples are on which the new base stays as it is.

    Raises:
        TransfuseError: an input cannot be used, or the output cannot be written.
    """
    check_one_process("carrying")
    start = time.perf_counter()
    output = Path(str(job.output))
    job.torch_device()
    *_, tuned_class = check_checkpoints(job.models, job, check_fusible)
    new_base, base, tuned = job.models
    if job.maps is not None:
        check_mapped_sizes([new_base, base], job)
    with locked_output(output):
        data, kept = (calibration_samples(name, tuned_class, job) for name in (job.data, keep))
        samples = None
        if job.report:
            samples = samples_to_measure(job.data, tuned, tuned_class, DEFAULT_LIMIT, job, progress)
        matched = match_for_carry(
            base, tuned, new_base, data, kept, progress, max_memory=job.max_memory, **job.options()
        )
        maps = matched.maps() if job.maps is not None else None
        fusion = carried(matched, progress)
        facts: dict[str, Any] = {"data": job.data, "keep": keep, "output": str(output)}
        facts |= {"seconds": round(time.perf_counter() - start, 2), "peak_bytes": peak_bytes()}
        fusion = replace(fusion, record=fusion.record | facts)
        fusion.save(output, job.overwrite)
        return written_after(job, matched, fusion, maps, samples, progress, carried_verdict)
