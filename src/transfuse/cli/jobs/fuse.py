"""The work of `transfuse fuse` and `transfuse plan`. What is cheap to check is checked before models are loaded."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from transfuse.alignment.interface import Alignment
from transfuse.base.budget import available_bytes, check_room
from transfuse.base.distributed import process_group
from transfuse.base.folders import make_folder, remove_empty
from transfuse.base.lock import alone, held
from transfuse.base.progress import Progress
from transfuse.base.sizes import format_bytes
from transfuse.base.timing import peak_bytes
from transfuse.checkpoint.load import load_empty
from transfuse.checkpoint.output import clear_remains
from transfuse.checkpoint.owned import MARKER, WORK
from transfuse.checkpoint.sentences import check_sentences
from transfuse.cli.jobs.inspection import fusible, inspect
from transfuse.cli.jobs.report import LIMIT, report_of, to_measure, unmeasured, write_texts
from transfuse.cli.validation import WorkDir, policy
from transfuse.config.options import Job, Options
from transfuse.data.samples import Samples, load_samples
from transfuse.data.splits import CALIBRATION
from transfuse.data.tasks import task
from transfuse.errors import ConfigError, TransfuseError
from transfuse.fusion.cost_model import START, Estimate, rates
from transfuse.fusion.fuse import Fusion, merged
from transfuse.fusion.match import Matched, check_alike, match
from transfuse.fusion.plan import FusionPlan, fusion_plan
from transfuse.fusion.stream import nothing, stream, streamable
from transfuse.network.spec import Spec


def fuse_job(job: Job, place: WorkDir, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """Fuse and save. Returns the output and its record."""
    start, output = time.perf_counter(), Path(str(job.output))
    job.torch_device()
    anchor, *_ = inspect(job.models, job, fusible)
    with _at(place, output):
        cost, able = _foretold(job.models, job, job.data is not None)
        streams = process_group().all_gather(_streams(cost, able, job.max_memory))[
            0
        ]  # each might see another amount of memory
        if streams:
            beside = partial(_beside, output.name, job) if job.report else nothing
            record = stream(job.models, output, policy(job), progress, place.folder, beside, **job.options())
            return output, record
        check_room(cost.loaded - START, torch.device("cpu"), "fusing", progress.warn)
        samples = None if job.data is None else task(anchor).samples(load_samples(job.data, CALIBRATION))
        shown = to_measure(job.data, job.models[0], anchor, LIMIT, job) if job.report else None
        room = None if job.max_memory is None else max(job.max_memory - cost.loaded, 1)  # what the models leave of it
        matched = match(job.models, samples, progress, cache=place.folder, room=room, **job.options())
        fusion = merged(matched, progress)
        took: dict[str, Any] = {"seconds": round(time.perf_counter() - start, 2), "peak_bytes": peak_bytes()}
        if job.data is None:
            took["foretold"] = {"seconds": round(cost.labour.takes(rates()), 1), "bytes": cost.loaded}
        fusion = replace(fusion, record=fusion.record | {"data": job.data} | took)
        if process_group().first:
            fusion.save(output, policy(job))
            if job.report:
                _report(matched, fusion, output, shown, progress)
        process_group().barrier()
        return output, fusion.record


def _report(matched: Matched, fusion: Fusion, output: Path, shown: Samples | None, progress: Progress) -> None:
    """Write the report into the output, which is there whatever becomes of it."""
    try:
        report = report_of(matched, fusion.model, fusion.record, output.name, shown, progress)
        write_texts(output, report.texts)
    except TransfuseError as error:
        raise type(error)(f"{output}: is written, but not its report: {error}") from error


def _beside(
    name: str, options: Options, spec: Spec, alignments: Sequence[Alignment], record: dict[str, Any]
) -> dict[str, str]:
    return dict(unmeasured(spec, options, alignments, record, name).texts)


@contextmanager
def _alone(place: WorkDir, output: Path) -> Iterator[None]:
    """Hold the output, wherever the work lies, and the folder of the work if it goes with the run."""
    target = output.expanduser().resolve()
    with alone(output):
        make_folder(place.folder)
        with nullcontext() if place.lasting else held(place.folder / MARKER, str(output)):
            clear_remains(target, "partial")
            yield
            clear_remains(target, "replaced")


@contextmanager
def _at(place: WorkDir, output: Path) -> Iterator[None]:
    """Work that ends leaves its folder only if it is to last; work that is cut short, only if something is done."""
    absent = [parent for parent in place.folder.absolute().parents if not parent.exists()]
    with _alone(place, output) if process_group().first else nullcontext():
        make_folder(place.folder)
        if place.lasting:
            yield
            return
        try:
            yield
        except BaseException:
            if not any(path.is_file() and path.name != MARKER for path in place.folder.rglob("*")):
                shutil.rmtree(place.folder, ignore_errors=True)
                remove_empty(absent)
            raise
        if process_group().first:
            _clear(place.folder)


def _clear(work: Path) -> None:
    """Remove what a run left in the folder of its work, and that folder unless other files came to lie there."""
    for path in work.iterdir():
        if WORK.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    if [path.name for path in work.iterdir()] == [MARKER]:
        shutil.rmtree(work, ignore_errors=True)


def _foretold(models: Sequence[str], options: Options, data: bool) -> tuple[Estimate, bool]:
    """What fusing will take, and whether the models can stay in their files: headers and configuration say."""
    empty = [load_empty(name, pickle=options.pickle_policy()) for name in models]
    return Estimate(empty, options), streamable(models, empty, options, data)


def _streams(cost: Estimate, able: bool, max_memory: int | None) -> bool:
    """Whether the models are to stay in their files, as they do not fit into memory. Raises `ConfigError`."""
    least = cost.streamed if able else cost.loaded
    if max_memory is not None and least > max_memory:
        how = "even tensor by tensor" if able else "with loaded models (--data, --align learned or --vocab need them)"
        raise ConfigError(f"max-memory: {how}, this takes about {format_bytes(least)}; allow more")
    return able and cost.loaded > (available_bytes() // 2 if max_memory is None else max_memory)


def plan_job(models: Sequence[str], options: Options, max_memory: int | None) -> FusionPlan:
    """What fusing by weights would match, and what it would take; only headers and configuration are read."""
    if len(models) < 2:
        raise ConfigError(f"{len(models)} models given; give two or more, the anchor first")
    if options.align == "learned":
        raise ConfigError("align: only fusing by weights can be foretold; choose none, flow or exact")
    inspect(models, options, fusible)
    check_sentences(models)
    cost, able = _foretold(models, options, False)
    check_alike(cost.models, models)
    return fusion_plan(models, cost, able, _streams(cost, able, max_memory))
