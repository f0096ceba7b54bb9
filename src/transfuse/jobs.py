"""The commands' work: from checked options to results. What is cheap to check is checked before models are loaded."""

import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.batch import Batch
from transfuse.checks import MARK, TrainingTarget, Workplace, policy
from transfuse.config import Job, Options, Settings
from transfuse.errors import ConfigError, OutputError, SpecError
from transfuse.estimate import Estimate, available_bytes
from transfuse.evaluate import Metrics, evaluate
from transfuse.evaluate import Path as Line
from transfuse.evaluate import path as walk
from transfuse.finetuning import finetune, training_samples
from transfuse.fusion import align, calibrate, check_alike, check_models, fuse, load
from transfuse.io.checkpoint import load_empty, local_directory, read_config
from transfuse.io.data import Samples, load_samples
from transfuse.io.files import weight_files
from transfuse.io.output import remove_empty
from transfuse.io.splits import CALIBRATION
from transfuse.network.families import FAMILIES, declare
from transfuse.outlook import Outlook, outlook
from transfuse.plugins import load_families
from transfuse.progress import Progress
from transfuse.ranks import here
from transfuse.schedule import Schedule
from transfuse.sizes import in_words
from transfuse.streaming import stream, streamable
from transfuse.tasks import check_measurable, own_preparer, task, with_ids_of
from transfuse.vocabulary import rows_of_words


def fuse_job(job: Job, place: Workplace, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """Fuse and save. Returns the output and its record."""
    start, output = time.perf_counter(), Path(str(job.output))
    job.torch_device()
    anchor, *_ = _inspect(job.models, job, _fusible)
    with _at(place):
        cost, able = _foretold(job.models, job, job.data is not None)
        if here().gathered(_streams(cost, able, job.max_memory))[0]:  # each might see another amount of memory free
            return output, stream(job.models, output, policy(job), progress, place.folder, **job.options())
        samples = None if job.data is None else task(anchor).samples(load_samples(job.data, CALIBRATION))
        room = None if job.max_memory is None else max(job.max_memory - cost.loaded, 1)  # what the models leave of it
        fusion = fuse(job.models, samples, progress, cache=place.folder, room=room, **job.options())
        seconds = round(time.perf_counter() - start, 2)
        fusion = replace(fusion, record=fusion.record | {"data": job.data, "seconds": seconds})
        if here().first:
            fusion.save(output, policy(job))
        here().wait()
        return output, fusion.record


@contextmanager
def _at(place: Workplace) -> Iterator[None]:
    """Work that ends leaves its folder only if it is to last; work that is cut short, only if something is done."""
    if place.lasting:
        yield
        return
    absent = [parent for parent in place.folder.absolute().parents if not parent.exists()]
    place.folder.mkdir(parents=True, exist_ok=True)
    (place.folder / MARK).touch()
    try:
        yield
    except BaseException:
        if not any(path.is_file() and path.name != MARK for path in place.folder.rglob("*")):
            shutil.rmtree(place.folder, ignore_errors=True)
            remove_empty(absent)
        raise
    if here().first:
        shutil.rmtree(place.folder, ignore_errors=True)


def _foretold(models: Sequence[str], options: Options, data: bool) -> tuple[Estimate, bool]:
    """What fusing will take, and whether the models can stay in their files: headers and configuration say."""
    empty = [load_empty(name, pickle=options.pickle_policy()) for name in models]
    return Estimate(empty, options), streamable(models, empty, options, data)


def _streams(cost: Estimate, able: bool, max_memory: int | None) -> bool:
    """Whether the models are to stay in their files, as they do not fit into memory. Raises `ConfigError`."""
    least = cost.streamed if able else cost.loaded
    if max_memory is not None and least > max_memory:
        how = "even tensor by tensor" if able else "with loaded models (--data, --align learned or --vocab need them)"
        raise ConfigError(f"max-memory: {how}, this takes about {in_words(least)}; allow more")
    return able and cost.loaded > (available_bytes() // 2 if max_memory is None else max_memory)


def plan_job(models: Sequence[str], options: Options, max_memory: int | None) -> Outlook:
    """What fusing by weights would match, and what it would take; only headers and configuration are read."""
    if len(models) < 2:
        raise ConfigError(f"{len(models)} models given; give two or more, the anchor first")
    if options.align == "learned":
        raise ConfigError("align: only fusing by weights can be foretold; choose none, flow or exact")
    _inspect(models, options, _fusible)
    cost, able = _foretold(models, options, False)
    check_alike(cost.models, models)
    return outlook(models, cost, able, _streams(cost, able, max_memory))


def eval_job(
    models: Sequence[str], data: str, limit: int | None, options: Options, progress: Progress
) -> tuple[dict[str, Metrics], tuple[str, ...]]:
    """Metrics of every model on labelled data, and which of them tell something of such models."""
    device = options.torch_device()
    tasks = [task(each) for each in _inspect(models, options, check_measurable)]
    given = load_samples(data)
    samples = [does.labelled(given).take(limit, options.seed) for does in tasks]
    found = {}
    for index, name in enumerate(progress.track(models, "evaluating")):
        model = load(name, options).to(device).float()
        found[name] = evaluate(model, _batches(samples[index], model, name, options))
    return found, tuple(name for name in tasks[0].measures if all(name in does.measures for does in tasks))


def path_job(
    anchor: str, other: str, data: str, limit: int | None, points: int, options: Options, progress: Progress
) -> Line:
    """The line between two models after alignment."""
    options.torch_device()
    kind, _ = _inspect((anchor, other), options, _fusible)
    samples = task(kind).labelled(load_samples(data)).take(limit, options.seed)
    calibration = load_samples(data, CALIBRATION)
    loaded = [load(name, options) for name in (anchor, other)]
    rows_of_words([anchor, other], loaded, "same")
    networks = check_models(loaded, [anchor, other], options)
    batches = list(_batches(samples, loaded[0], anchor, options))
    choices = calibrate(networks, anchor, calibration, options)
    (aligned,), _ = align(networks, [0.5, 0.5], choices, options, progress=progress)
    parents = evaluate(networks[0].model, batches), evaluate(networks[1].model, batches)
    steps = iter(progress.track(range(points), "walking"))
    next(steps)
    return walk(
        networks[0].model, aligned.anchor, aligned.carried, parents, batches, points, lambda position: next(steps, None)
    )


def finetune_job(
    models: Sequence[str], data: str, schedule: Schedule, target: TrainingTarget, progress: Progress
) -> tuple[Path, dict[str, Any]]:
    """Fine-tune the first of `models`, the others its teachers, and save. Returns output and record.

    The state of the run is removed once the model is written.
    """
    start = time.perf_counter()
    schedule.torch_device()
    kind, *_ = _inspect(models, schedule, check_measurable)
    model, *teachers = models
    samples = training_samples(data, task(kind), schedule, bool(teachers))
    state = target.checkpoints
    options = schedule.model_dump(exclude_unset=True)
    try:
        tuned = finetune(model, samples, teachers, progress, checkpoints=state, resume=target.resume, **options)
    except BaseException:
        if not any(state.glob("checkpoint-*")):
            shutil.rmtree(state, ignore_errors=True)
        raise
    record = tuned.record | {"data": data, "seconds": round(time.perf_counter() - start, 2)}
    if PartialState().is_main_process:
        replace(tuned, record=record).save(target.output, target.overwrite)
        shutil.rmtree(state, ignore_errors=True)
    return target.output, record


def save_plot(lines: Mapping[str, Line], target: Path) -> None:
    """Write the picture, all of it or nothing. Raises `OutputError`."""
    from transfuse.report.plots import save_path_plot

    partial = target.with_name(f".{target.stem}.partial-{secrets.token_hex(4)}{target.suffix}")
    try:
        save_path_plot(lines, partial)
        partial.replace(target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another place") from error
    finally:
        partial.unlink(missing_ok=True)


def _inspect(models: Sequence[str], options: Settings, accept: Callable[[PreTrainedConfig, str], None]) -> list[str]:
    """Every checkpoint is there, with weights that may be read, and of an architecture that `accept` lets pass.

    Returns the names of their classes.
    """
    load_families(options.spec)
    pickle, found = options.pickle_policy(), []
    for name in models:
        directory = local_directory(name, pickle)
        config = read_config(directory)
        weight_files(directory, pickle)
        try:
            accept(config, _architecture(config))
            found.append(_architecture(config))
        except SpecError as error:
            raise SpecError(f"{name}: {error}") from error
    return found


def _architecture(config: PreTrainedConfig) -> str:
    names = config.architectures or ["a model without a head"]
    if not (isinstance(names, list) and isinstance(names[0], str)):
        raise SpecError(f"architectures in config.json should be a list of names, not {names!r}")
    return names[0]


def _fusible(config: PreTrainedConfig, architecture: str) -> None:
    if architecture not in FAMILIES:
        declare(config, architecture)


def _batches(samples: Samples, model: PreTrainedModel, name: str, options: Options) -> Iterator[Batch]:
    """Prepared by the model's own processor, labelled with its own ids; one batch in memory at a time."""
    return with_ids_of(model.config, samples).batches(own_preparer(name, model), options.batch_size)
