"""Run `transfuse shrink`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfuse.base.memory_limit import limit_for, planned_limit
from transfuse.base.progress import Progress
from transfuse.base.timing import peak_bytes
from transfuse.checkpoint.reading.load import load_empty
from transfuse.checkpoint.record.command import shrink_call
from transfuse.checkpoint.writing.output import check_target
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible
from transfuse.cli.jobs.quality import QUICK_LIMIT, measured_quality, unmeasured, why_unmeasured
from transfuse.cli.jobs.report import DEFAULT_LIMIT, Report
from transfuse.cli.jobs.report_files import after_writing, report_texts, update_card, write_report
from transfuse.cli.jobs.work import working_in
from transfuse.cli.jobs.written import Written
from transfuse.cli.shrink_request import ShrinkRequest
from transfuse.cli.targets import WorkDir
from transfuse.config.data_options import is_generated
from transfuse.data.text.generation import calibration_samples
from transfuse.errors import TransfuseError
from transfuse.evaluation.models import evaluate_models
from transfuse.report.facts import Facts, Measurement
from transfuse.report.shrunk import shrunk_measurement, shrunk_verdict
from transfuse.report.shrunk_page import shrunk_page
from transfuse.shrinking.possible import possible_sizes
from transfuse.shrinking.result import Shrunk
from transfuse.shrinking.shrink import shrink
from transfuse.shrinking.small_model import size_record
from transfuse.shrinking.streamed import checked_streaming, loaded_bytes


def plan_job(request: ShrinkRequest, max_memory: int | None, progress: Progress) -> dict[str, Any]:
    """Return the sizes and the number of parameters before and after, and the memory that shrinking takes.

    For a ratio, these are the sizes that would be tried. The memory is that besides what samples take; None for a model
    that stays in its files.

    Args:
        max_memory: bytes that shrinking may take; None: there is no limit.

    Raises:
        TransfuseError: the model cannot be read, a size is impossible, or the memory does not suffice.
    """
    options = request.options
    check_checkpoints([request.model], options, check_fusible)
    empty = load_empty(request.model, pickle=options.pickle_policy())
    series = possible_sizes(request.model, empty, options)
    with planned_limit(max_memory):
        streams = checked_streaming(request.model, empty, series, options, progress.warn)
        needed = None if streams else limit_for(loaded_bytes(empty), options.torch_device())
    return {
        "possible": [size_record(empty, sizes) for some in series for sizes in some],
        "streams": streams,
        "needed_bytes": needed,
    }


def shrink_job(request: ShrinkRequest, work: WorkDir, progress: Progress) -> Written:
    """Make a model smaller, save it, and measure it beside the large one.

    Raises:
        TransfuseError: an input cannot be used, a size is impossible, or the output cannot be written.
    """
    begin = time.perf_counter()
    options, output = request.options, request.output
    with working_in(work, output):
        check_target(output, request.overwrite, [Path(request.model)])
        options.torch_device()
        architecture, *_ = check_checkpoints([request.model], options, check_fusible)
        samples = calibration_samples(request.data, architecture, options)
        given = options.model_dump(exclude_unset=True)
        shrunk = shrink(request.model, samples, progress, cache=work.folder, **given)
        costs = {"seconds": round(time.perf_counter() - begin, 2), "peak_bytes": peak_bytes()}
        shrunk.record.update({"data": request.data, "output": str(output)} | costs)
        shrunk.save(output, request.overwrite)
        with after_writing(output, "report" if request.report else "measurements"):
            found = _evaluated(request, shrunk, progress)
            quality, report = _with_measurements(request, shrunk.record, found, progress)
        return Written(output, shrunk.record | {"quality": quality}, report)


def _with_measurements(
    request: ShrinkRequest, record: Mapping[str, Any], found: Measurement | str, progress: Progress
) -> tuple[dict[str, Any], Report | None]:
    """Write the measurements into the model card, and the report if one was asked for.

    Args:
        found: the measurements, or why there are none.
    """
    output = request.output
    if isinstance(found, str):
        measured, verdict = None, found
        quality: dict[str, Any] = {"verdict": found, "models": {}}
    else:
        measured, verdict = found, shrunk_verdict(found)
        own = "texts" if is_generated(request.data) else "data"
        quality = measured_quality(found, shrunk_verdict, f"the {own} that it was fitted to")
    update_card(output, record, verdict, measured, progress)
    if not request.report:
        return quality, None
    call = shrink_call(str(output), record)
    facts = Facts(f"{output.resolve().name}: a model made smaller", verdict, call, record, (), measured)
    report = Report(report_texts(facts, shrunk_page(facts)), verdict, measured)
    write_report(output, report.texts)
    return quality, report


def _evaluated(request: ShrinkRequest, shrunk: Shrunk, progress: Progress) -> Measurement | str:
    """Measure the large and the small model on the data, or return which command measures them."""
    data = shrunk.data if is_generated(request.data) else request.data
    models = [str(request.output), request.model]
    limit = DEFAULT_LIMIT if request.report else QUICK_LIMIT
    if shrunk.record.get("streamed"):
        return unmeasured(models, request.data, request.options, "the models do not fit into memory together")
    try:
        found = evaluate_models(models, data, limit, progress=progress, **request.options.shared())
        return shrunk_measurement(found, shrunk.data.split)
    except (TransfuseError, MemoryError, RuntimeError) as error:
        return unmeasured(models, request.data, request.options, why_unmeasured(error))
