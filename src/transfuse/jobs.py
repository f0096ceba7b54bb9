"""The commands' work: from checked options to results. What is cheap to check is checked before models are loaded."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.align.evidence import Batch
from transfuse.align.methods import METHODS
from transfuse.checks import policy
from transfuse.config import Job, Options
from transfuse.errors import OutputError, SpecError
from transfuse.evaluate import Metrics, evaluate
from transfuse.evaluate import Path as Line
from transfuse.evaluate import path as walk
from transfuse.fusion import calibrate, check_models, fuse, load, own_preparer, resolve_evidence
from transfuse.io.checkpoint import local_directory, read_config
from transfuse.io.data import Samples, load_samples
from transfuse.io.files import weight_files
from transfuse.io.splits import CALIBRATION
from transfuse.network.families import FAMILIES, declare
from transfuse.progress import Progress


def fuse_job(job: Job, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """Fuse and save. Returns the output and its record."""
    start = time.perf_counter()
    resolve_evidence(job, job.data)
    job.torch_device()
    _inspect(job.models, job, _fusible)
    samples = None if job.data is None else load_samples(job.data, CALIBRATION).require_images()
    fusion = fuse(job.models, samples, progress, **job.options())
    seconds = round(time.perf_counter() - start, 2)
    fusion = replace(fusion, record=fusion.record | {"data": job.data, "seconds": seconds})
    return fusion.save(str(job.output), policy(job)), fusion.record


def eval_job(
    models: Sequence[str], data: str, limit: int | None, options: Options, progress: Progress
) -> dict[str, Metrics]:
    """Metrics of every model on labelled data."""
    device = options.torch_device()
    _inspect(models, options, _classifies_images)
    samples = _measured(data, limit, options)
    found = {}
    for name in progress.track(models, "evaluating"):
        model = load(name, options).to(device).float()
        found[name] = evaluate(model, _batches(samples, model, name, options))
    return found


def path_job(
    anchor: str, other: str, data: str, limit: int | None, points: int, options: Options, progress: Progress
) -> Line:
    """The line between two models after alignment."""
    options.torch_device()
    _inspect((anchor, other), options, _fusible)
    samples = _measured(data, limit, options)
    calibration = load_samples(data, CALIBRATION)
    loaded = [load(name, options) for name in (anchor, other)]
    networks = check_models(loaded, [anchor, other], options)
    batches = list(_batches(samples, loaded[0], anchor, options))
    aligned = METHODS[options.align](networks[0], networks[1], calibrate(networks[0], anchor, calibration, options))
    parents = evaluate(networks[0].model, batches), evaluate(networks[1].model, batches)
    steps = iter(progress.track(range(points), "walking"))
    next(steps)
    return walk(
        networks[0].model, aligned.anchor, aligned.carried, parents, batches, points, lambda position: next(steps, None)
    )


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


def _inspect(models: Sequence[str], options: Options, accept: Callable[[PreTrainedConfig, str], None]) -> None:
    """Every checkpoint is there, with weights that may be read, and of an architecture that `accept` lets pass."""
    pickle = options.pickle_policy()
    for name in models:
        directory = local_directory(name, pickle)
        config = read_config(directory)
        weight_files(directory, pickle)
        try:
            accept(config, _architecture(config))
        except SpecError as error:
            raise SpecError(f"{name}: {error}") from error


def _architecture(config: PreTrainedConfig) -> str:
    names = config.architectures or ["a model without a head"]
    if not (isinstance(names, list) and isinstance(names[0], str)):
        raise SpecError(f"architectures in config.json should be a list of names, not {names!r}")
    return names[0]


def _fusible(config: PreTrainedConfig, architecture: str) -> None:
    if architecture not in FAMILIES:
        declare(config, architecture)


def _classifies_images(config: PreTrainedConfig, architecture: str) -> None:
    if "ForImageClassification" not in architecture:
        raise SpecError(f"{architecture} does not classify images, and only that can be measured; give one that does")


def _measured(data: str, limit: int | None, options: Options) -> Samples:
    return load_samples(data).require_images().require_labels().take(limit, options.seed)


def _batches(samples: Samples, model: PreTrainedModel, name: str, options: Options) -> Iterator[Batch]:
    """Prepared by the model's own processor, labelled with its own ids; one batch in memory at a time."""
    aligned = samples.aligned_to(model.config.id2label)
    return aligned.batches(own_preparer(name, model.config), options.batch_size)
