"""Run `transfuse fuse` and `transfuse plan`. Cheap checks come before models are loaded."""

import shlex
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfuse.alignment.exact.model_maps import ModelMaps
from transfuse.base.distributed import process_group
from transfuse.base.memory_limit import planned_limit
from transfuse.base.progress import Progress, silent
from transfuse.base.timing import peak_bytes
from transfuse.base.unique_json import read_json
from transfuse.checkpoint.reading.companions import RECORD
from transfuse.checkpoint.reading.sentences import check_sentence_modules
from transfuse.checkpoint.writing.push import push_folder
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible, check_mapped_sizes
from transfuse.cli.jobs.quality import measured_quality, quick_measurement
from transfuse.cli.jobs.report import DEFAULT_LIMIT, Report, build_report, samples_to_measure
from transfuse.cli.jobs.report_files import after_writing, update_card, write_report
from transfuse.cli.jobs.work import working_in
from transfuse.cli.jobs.written import Written
from transfuse.cli.targets import WorkDir
from transfuse.config.job import Job
from transfuse.data.text.generation import calibration_samples
from transfuse.errors import InterruptedRunError, TransfuseError
from transfuse.evaluation.samples import MeasuredSamples
from transfuse.fusion.fuse import merge
from transfuse.fusion.match import match
from transfuse.fusion.matched import Matched
from transfuse.fusion.models.anchor_settings import warn_of_settings
from transfuse.fusion.models.unloaded import unloaded_models
from transfuse.fusion.other_processors import warned_of_processors
from transfuse.fusion.planning.data_memory import check_data_memory
from transfuse.fusion.planning.plan import FusionPlan, fusion_plan
from transfuse.fusion.planning.streaming_choice import needs_streaming
from transfuse.fusion.planning.with_data import data_estimate
from transfuse.fusion.result import Fusion
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.report.facts import Measurement
from transfuse.report.verdict import verdict


def fuse_job(job: Job, work: WorkDir, progress: Progress) -> Written:
    """Fuse the models of a job and save the result, with a report and on the Hub if the job says so.

    Raises:
        TransfuseError: an input cannot be fused, or the output cannot be written.
    """
    start = time.perf_counter()
    output = Path(str(job.output))
    job.torch_device()
    anchor, *_ = check_checkpoints(job.all_models(), job, check_fusible)
    if job.maps is not None:
        check_mapped_sizes(job.models, job)
    with working_in(work, output):
        samples = calibration_samples(job.data, anchor, job)
        test_samples = None
        if job.report:
            test_samples = samples_to_measure(job.data, job.models[0], anchor, DEFAULT_LIMIT, job, progress)
        memory = job.max_memory
        matched = match(
            job.models, samples, progress, cache=work.folder, max_memory=memory, base=job.base, **job.options()
        )
        maps = matched.maps() if job.maps is not None else None
        fusion = merge(matched, progress)
        costs: dict[str, Any] = {"seconds": round(time.perf_counter() - start, 2), "peak_bytes": peak_bytes()}
        if job.data is None and not matched.inputs.streamed:
            costs["predicted"] = {"bytes": matched.inputs.loaded_bytes}
        fusion = replace(fusion, record=fusion.record | {"data": job.data, "output": str(output)} | costs)
        result = Written(output, fusion.record)
        if process_group().first:
            fusion.save(output, job.overwrite)
            result = written_after(job, matched, fusion, maps, test_samples, progress)
            if job.push_to_hub is not None:
                result = replace(result, address=_push(job, output))
        process_group().barrier()
        return result


def written_after(
    job: Job,
    matched: Matched,
    fusion: Fusion,
    maps: ModelMaps | None,
    samples: MeasuredSamples | None,
    progress: Progress,
    verdict: Callable[[Measurement], str] = verdict,
) -> Written:
    """Write what comes after a fused model: its maps, its report if the job asks for one, and measurements.

    Args:
        samples: those that the report measures.
        verdict: says how good the fused model is.
    """
    output = Path(str(job.output))
    fusion = _with_adapter_record(fusion, output)
    if maps is not None:
        with after_writing(output, "maps"):
            maps.save(str(job.maps))
    report = _with_report(matched, fusion, output, samples, progress) if job.report else None
    if report is not None and report.measured is not None:
        quality = measured_quality(report.measured, verdict)
    else:
        quality = _measure_fused(job, matched, fusion, output, progress, verdict)
    return Written(output, fusion.record | {"quality": quality}, report)


def _with_report(
    matched: Matched, fusion: Fusion, output: Path, samples: MeasuredSamples | None, progress: Progress
) -> Report:
    """Write the report into the output, which is kept even if the report fails."""
    with after_writing(output, "report"):
        fused = None if samples is None else fusion.model
        report = build_report(matched, fused, fusion.record, output.name, samples, progress)
        write_report(output, report.texts)
        update_card(output, fusion.record, report.verdict, report.measured, progress)
    return report


def _with_adapter_record(fusion: Fusion, output: Path) -> Fusion:
    """Return a fusion that was written to a folder, with what its adapter holds, if it has one."""
    if fusion.options.adapter_out is None:
        return fusion
    return replace(fusion, record=fusion.record | {"adapter": read_json(output / RECORD)["adapter"]})


def _measure_fused(
    job: Job,
    matched: Matched,
    fusion: Fusion,
    output: Path,
    progress: Progress,
    verdict: Callable[[Measurement], str],
) -> dict[str, Any]:
    """Measure the fused model on a few samples, and write the measurements into its card.

    The output is kept even if that fails.
    """
    with after_writing(output, "measurements"):
        found = quick_measurement(job, matched, fusion, progress)
        if isinstance(found, dict):
            return found
        update_card(output, fusion.record, verdict(found), found, progress)
    return measured_quality(found, verdict)


def _push(job: Job, output: Path) -> str:
    """Write the output to the Hub, and return the address. The output is kept even if that fails."""
    repo_id = str(job.push_to_hub)
    again = shlex.join(["hf", "upload", repo_id, str(output)])
    later = f"the model is in {output}, and `{again}` writes it later"
    try:
        return push_folder(output, repo_id, private=job.private or None)
    except TransfuseError as error:
        raise type(error)(f"{error}; {later}") from error
    except KeyboardInterrupt as error:
        raise InterruptedRunError(f"interrupted; {later}") from error


def plan_job(job: Job, progress: Progress = silent) -> FusionPlan:
    """Return what fusing would match and require, from headers, configurations, and the longest sample.

    Args:
        progress: is told about processors that differ.

    Raises:
        TransfuseError: the models cannot be fused, the samples cannot be read, or `max_memory` bytes do not suffice.
    """
    models = job.all_models()
    architecture, *_ = check_checkpoints(models, job, check_fusible)
    check_sentence_modules(models)
    size_samples = None
    if job.data is not None:
        size_samples = SizeSamples(models, job.data, job, removes_units=job.base is None)
    unloaded = unloaded_models(models, models, job, job.data is not None, job.base is not None, size_samples)
    warn_of_settings(unloaded.stored, models, job, progress)
    job, estimate, obstacle = unloaded.options, unloaded.estimate, unloaded.obstacle
    streams = needs_streaming(estimate, obstacle, job.max_memory, job.data is not None)
    plan = fusion_plan(models, unloaded.stored, estimate, obstacle is None, streams)
    plan = replace(plan, base_correlation=unloaded.correlation)
    if job.data is None:
        return plan
    samples = calibration_samples(job.data, architecture, job)
    with planned_limit(job.max_memory):
        with_data = data_estimate(estimate, streams, job.models[0], samples)
        if with_data is None:
            return plan
        warned_of_processors(job.models, unloaded.models[0], job, progress, data=samples)
        if job.max_memory is not None:
            check_data_memory(with_data, job.max_memory, silent.warn)
        return replace(plan, data=with_data.plan())
