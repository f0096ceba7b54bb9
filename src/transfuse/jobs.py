"""The commands' work: from paths and flags to results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transfuse.align.methods import METHODS
from transfuse.config import Job, Options, make, read
from transfuse.errors import ConfigError, OutputError
from transfuse.evaluate import Metrics, evaluate
from transfuse.evaluate import Path as Line
from transfuse.evaluate import path as walk
from transfuse.fusion import calibrate, check_models, fuse, load, prepare
from transfuse.io.data import Samples, load_samples
from transfuse.io.output import Overwrite, check_target
from transfuse.progress import Progress


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, ())}


def fuse_job(flags: Mapping[str, Any], config: Path | None, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """Fuse and save; flags win over the configuration file. Returns the output and its record."""
    values, lines = read(config) if config else ({}, {})
    flags = _given(flags)
    job: Job = make(Job, values | flags, {name: place for name, place in lines.items() if name not in flags})
    if len(job.models) < 2:
        raise ConfigError("fuse: give at least two models, the anchor first")
    if not job.output:
        raise ConfigError("fuse: say where to write with -o OUT")
    policy: Overwrite = "replace" if job.overwrite else "refuse"
    check_target(Path(job.output), policy, [Path(model) for model in job.models])
    chosen = job.model_dump(include=set(Options.model_fields), exclude_unset=True)
    fusion = fuse(job.models, job.data, progress, **chosen)
    return fusion.save(job.output, policy), fusion.record


def eval_job(
    models: Sequence[str], data: str, limit: int | None, flags: Mapping[str, Any], progress: Progress
) -> dict[str, Metrics]:
    """Metrics of every model on labelled data."""
    options: Options = make(Options, _given(flags))
    samples = load_samples(data).require_labels().take(limit, options.seed)
    found = {}
    for name in progress.track(models, "evaluating"):
        model = load(name, options).to(options.torch_device()).float()
        found[name] = evaluate(model, prepare(_aligned(samples, model), model, name, options))
    return found


def _aligned(samples: Samples, model: Any) -> Samples:
    return samples.aligned_to(model.config.id2label)


def path_job(
    anchor: str, source: str, data: str, limit: int | None, points: int, plot: Path | None, flags: Mapping[str, Any],
    progress: Progress,
) -> Line:  # fmt: skip
    """The line between two models after alignment; a plot where asked for."""
    options: Options = make(Options, _given(flags))
    if plot and plot.suffix not in (".png", ".svg"):
        raise OutputError(f"{plot}: a plot is a .png or .svg file")
    loaded = [load(name, options) for name in (anchor, source)]
    networks = check_models(loaded, [anchor, source], options)
    samples = _aligned(load_samples(data).require_labels().take(limit, options.seed), loaded[0])
    batches = prepare(samples, networks[0].model, anchor, options)
    choices = calibrate(networks[0], anchor, data, options)
    aligned = METHODS[options.align](networks[0], networks[1], choices)
    parents = evaluate(networks[0].model, batches), evaluate(networks[1].model, batches)
    steps = iter(progress.track(range(points), "walking"))
    next(steps)
    line = walk(
        networks[0].model, aligned.anchor, aligned.carried, parents, batches, points, lambda position: next(steps, None)
    )
    if plot:
        from transfuse.report.plots import save_path_plot

        try:
            save_path_plot({options.align: line}, plot)
        except OSError as error:
            raise OutputError(f"{plot}: cannot be written ({error.strerror})") from error
    return line
