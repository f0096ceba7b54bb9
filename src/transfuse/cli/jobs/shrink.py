"""Run `transfuse shrink`."""

import shlex
import time
from pathlib import Path
from typing import Any

from transfuse.base.budget import FLOAT_BYTES, check_free_memory, is_out_of_memory
from transfuse.base.lock import output_lock
from transfuse.base.progress import Progress
from transfuse.base.timing import peak_bytes
from transfuse.checkpoint.load import load_empty
from transfuse.checkpoint.output import check_target
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible
from transfuse.cli.jobs.quality import QUICK_LIMIT, Quality
from transfuse.cli.validation import ShrinkRequest
from transfuse.config.data_options import DataOptions
from transfuse.config.settings import Settings
from transfuse.data.generation import calibration_samples
from transfuse.errors import TransfuseError
from transfuse.evaluation.comparison import Evaluation
from transfuse.evaluation.measures import headline, phrase, unit
from transfuse.evaluation.models import evaluate_models
from transfuse.shrinking.plan import plan, possible_sizes
from transfuse.shrinking.shrink import Shrunk, shrink

COPIES = 3  # of the large model's weights: as it was loaded, with folded norms, and room for the small one


def plan_job(request: ShrinkRequest) -> dict[str, Any]:
    """Return the sizes and the number of parameters before and after; for a ratio, those that would be tried.

    Raises:
        TransfuseError: the model cannot be read, or a size is impossible.
    """
    options = request.options
    check_checkpoints([request.model], options, check_fusible)
    empty = load_empty(request.model, pickle=options.pickle_policy())
    series = possible_sizes(request.model, empty, options)
    return {"possible": [plan(empty, sizes) for some in series for sizes in some]}


def shrink_job(request: ShrinkRequest, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """Make a model smaller and save it. Return the output folder and its record.

    Raises:
        TransfuseError: an input cannot be used, a size is impossible, or the output cannot be written.
    """
    begin = time.perf_counter()
    options, output = request.options, request.output
    with output_lock(output):
        check_target(output, request.overwrite, [Path(request.model)])
        device = options.torch_device()
        architecture, *_ = check_checkpoints([request.model], options, check_fusible)
        empty = load_empty(request.model, pickle=options.pickle_policy())
        possible_sizes(request.model, empty, options)
        check_free_memory(COPIES * FLOAT_BYTES * empty.num_parameters(), device, "shrinking", progress.warn)
        samples = calibration_samples(request.data, architecture, options)
        given = options.model_dump(exclude_unset=True)
        shrunk = shrink(request.model, samples, progress, **given)
        costs = {"seconds": round(time.perf_counter() - begin, 2), "peak_bytes": peak_bytes()}
        shrunk.record.update({"data": request.data, "output": str(output)} | costs)
        path = shrunk.save(output, request.overwrite)
        quality = measured(request, shrunk, progress)
        return path, shrunk.record | {"quality": quality}


def measured(request: ShrinkRequest, shrunk: Shrunk, progress: Progress) -> Quality:
    """Measure the large and the small model on a few samples of the data, or say which command measures them."""
    reading = {name: getattr(request.options, name) for name in DataOptions.model_fields}
    settings = {name: getattr(request.options, name) for name in ("batch_size", "seed", "device", "allow_pickle")}
    given = {name: value for name, value in (reading | settings).items() if name in Settings.model_fields}
    data = shrunk.data if request.data == "generated" else request.data
    models = [str(request.output), request.model]
    try:
        found = evaluate_models(models, data, QUICK_LIMIT, progress=progress, **given)
    except TransfuseError as error:
        return _unmeasured(models, request.data, str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _unmeasured(models, request.data, "memory did not suffice")
    return {"verdict": _verdict(found, request.data == "generated"), "models": found.records()}


def _unmeasured(models: list[str], data: str, reason: str) -> Quality:
    command = shlex.join(["transfuse", "eval", *models, "--data", "DATA" if data == "generated" else data])
    return {"verdict": f"Not measured: {reason.rstrip('.')}. Measure it with: {command}", "models": []}


def _verdict(found: Evaluation, generated: bool) -> str:
    """Return how the small model compares with the large one."""
    measure = headline(found.measures)
    values = [phrase(measure, model.metrics.value(measure)) for model in found.models.values()]
    count = next(iter(found.models.values())).metrics.samples
    where = f"Measured on {count} {unit(found.measures)} of {found.data}"
    own = ", the texts that it was fitted to" if generated else ""
    if found.compared is not None:
        words = values[0].replace("the parents", "the large model")
        return f"Without labels: the small model reaches {words}. {where}{own}."
    return f"The small model reaches {values[0]}, the large one {values[1]}. {where}{own}."
