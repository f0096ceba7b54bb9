"""What is known to be wrong before a model or a library is loaded: options, and places to write."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transfuse.base.folders import check_creatable
from transfuse.checkpoint.output import Overwrite, check_target
from transfuse.checkpoint.owned import DEMO_MARKER, MARKER, REPORT_JSON, REPORT_PAGE, RUN_STATE, is_own_file
from transfuse.cli.flags import Values, named_values
from transfuse.config.make import make
from transfuse.config.options import Job, MemoryLimits, Options
from transfuse.config.renamed import with_current_names
from transfuse.config.yaml_file import read
from transfuse.errors import ConfigError, OutputError
from transfuse.finetuning.schedule import Schedule, check_teacher_options

PLOT_SUFFIXES = (".png", ".svg")
LANDSCAPE_METRICS = ("loss", "accuracy")  # that a landscape can show


def fuse_request(given: Values, config: Path | None) -> Job:
    """Return the job that flags and configuration file describe; flags win. Raises `ConfigError` or `OutputError`."""
    values, labels = read(config) if config else ({}, {})
    flags, flag_labels = named_values(given)
    values, labels = with_current_names(Job, values, labels)
    if isinstance(values.get("flow"), dict) and "flow" in flags:
        flags["flow"] = values["flow"] | flags["flow"]
    job = make(Job, values | flags, labels | flag_labels)
    if len(job.models) < 2:
        raise ConfigError(f"{len(job.models)} models given; give two or more, the anchor first")
    if not job.output:
        raise ConfigError("no output given; say where to write with -o OUT")
    job.normalized_weights(len(job.models))
    for name in (*job.models, job.data, job.output, job.cache):
        _check_name(name or "")
    check_target(Path(job.output), overwrite_policy(job), [*map(Path, job.models), *_there(job.data, job.spec, config)])
    return job


def _there(*given: str | Path | None) -> list[Path]:
    """The inputs beside the models that lie on this disk; others are names on the Hub."""
    return [path for path in (Path(each).expanduser() for each in given if each) if os.path.lexists(path)]


@dataclass(frozen=True)
class WorkDir:
    """Where a fusion keeps its finished work.

    Attributes:
        lasting: whether it stays once the output is written.
    """

    folder: Path
    lasting: bool


def work_dir(job: Job, resume: bool) -> WorkDir:
    """The cache that was asked for; else a folder beside the output, where a run that was cut short left its work.

    What lies there is taken by what it was made of, so that nothing of another run can be taken by mistake; `resume`
    insists that there is some. Raises `ConfigError` or `OutputError`.
    """
    target = Path(job.output or "").expanduser()
    if job.cache is not None:
        cache = Path(job.cache).expanduser()
        if resume:
            raise ConfigError("--resume: with --cache, whatever is finished is found there; leave one of them out")
        if not job.cache.strip() or cache.resolve().is_relative_to(target.resolve()):
            raise ConfigError(f"cache: {job.cache!r} is no folder outside the output; choose another")
        check_folder(cache)
        return WorkDir(cache, lasting=True)
    folder = target.with_name(f"{target.name}.work")
    ours = (folder / MARKER).is_file()
    if resume and not ours:
        raise ConfigError(f"--resume: {folder} is not there, so no run was cut short; leave it out")
    if not ours and (folder.is_symlink() or folder.exists()):
        raise OutputError(f"{folder}: is in the way of what this run keeps meanwhile; move it, or give --cache DIR")
    return WorkDir(folder, lasting=False)


def overwrite_policy(job: Job) -> Overwrite:
    """What to do with an output that is there."""
    return "replace" if job.overwrite else "refuse"


def options(given: Values) -> Options:
    """Return the options that flags give. Raises `ConfigError`."""
    return make(Options, *named_values(given))


def limits(given: Values) -> MemoryLimits:
    """Return the memory limits among the flags. Raises `ConfigError`."""
    named = {name: value for name, value in given.items() if name in MemoryLimits.model_fields}
    return make(MemoryLimits, *named_values(named))


def split_limits(given: Values) -> tuple[Options, MemoryLimits]:
    """Return the options and the memory limits that flags give. Raises `ConfigError`."""
    others = {name: value for name, value in given.items() if name not in MemoryLimits.model_fields}
    return options(others), limits(given)


def required_data(data: str | None) -> str:
    """Return the samples to measure on. Raises `ConfigError` if there are none."""
    if data is None:
        raise ConfigError("nothing to measure on; give --data DATA")
    return data


def landscape_options(given: Values, metric: str) -> Options:
    """Return the options of `transfuse landscape`. Raises `ConfigError`."""
    if metric not in LANDSCAPE_METRICS:
        raise ConfigError(f"--metric: {metric!r} is not one of {', '.join(LANDSCAPE_METRICS)}")
    align = given.get("align") or "exact"
    if align not in ("exact", "none"):
        raise ConfigError(f"--align: {align!r} is not one of exact, none: others change what models compute")
    match_on = (given.get("match_on") or "weights") if align == "exact" else None
    return options({"merge": "mean"} | dict(given) | {"align": align, "match_on": match_on})


def schedule(given: Values) -> Schedule:
    """Return the schedule that flags give. Raises `ConfigError`."""
    values, labels = named_values(given)
    teachers = values.pop("teachers", ())
    chosen = make(Schedule, values, labels)
    check_teacher_options(values, teachers, labels)
    return chosen


@dataclass(frozen=True)
class TrainingTarget:
    """Where a fine-tuned model goes; its run's state lies in `checkpoints` until then, and starts from `resume`."""

    output: Path
    overwrite: Overwrite
    checkpoints: Path
    resume: str | None


def training_target(models: Sequence[str], output: str | None, resume: bool, replace: bool) -> TrainingTarget:
    """The output and the state of a run that takes `models`. Raises `ConfigError` or `OutputError`."""
    if not output:
        raise ConfigError("no output given; say where to write with -o OUT")
    for name in (output, *models):
        _check_name(name)
    overwrite: Overwrite = "replace" if replace else "refuse"
    target = check_target(Path(output), overwrite, [Path(each) for each in models])
    state = target.with_name(f"{target.name}.checkpoints")
    numbers = [path.name.removeprefix("checkpoint-") for path in state.glob("checkpoint-*")]
    saved = sorted(int(number) for number in numbers if number.isdigit())
    if state.is_symlink() or (state.exists() and not state.is_dir()):
        raise OutputError(f"{state}: is in the way of what this run keeps meanwhile; move it")
    others = [path.name for path in sorted(state.glob("*")) if not RUN_STATE.fullmatch(path.name)]
    if others:
        raise OutputError(
            f"{state}: holds {others[0]}, which finetune did not write; move it, or choose another output"
        )
    if resume and not saved:
        raise ConfigError(f"--resume: {state} holds no state of a run; leave it out")
    if not resume and saved:
        raise OutputError(f"{state}: a run was cut short here; go on with --resume, or remove it")
    return TrainingTarget(Path(output), overwrite, state, str(state / f"checkpoint-{saved[-1]}") if resume else None)


def check_plot(target: Path) -> None:
    """Raise `OutputError` unless a picture can be written to `target`."""
    if target.suffix.lower() not in PLOT_SUFFIXES:
        raise OutputError(f"{target}: a picture is a {' or '.join(PLOT_SUFFIXES)} file; change the ending")
    if target.is_dir():
        raise OutputError(f"{target}: is a directory; choose another name")
    try:
        check_creatable(target, parents=False)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another place") from error


def check_folder(target: Path) -> None:
    """Raise `OutputError` unless files can be written to the folder `target`, which may have to be made."""
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: a file is in the way; choose another folder")
    try:
        check_creatable(target / "file")
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another folder") from error


def check_report(folder: Path) -> None:
    """Raise `OutputError` unless a report can be written to a folder without loss of a file that is no report."""
    check_folder(folder)
    for name in (REPORT_PAGE, REPORT_JSON):
        file = folder / name
        if os.path.lexists(file) and not is_own_file(file):
            raise OutputError(
                f"{file}: transfuse did not write it and does not replace it; move it, or choose a folder with -o"
            )


def check_demo(folder: Path) -> None:
    """Raise `OutputError` unless `folder` is absent, empty, or what the demo made before, and the page may go there."""
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DEMO_MARKER).is_file():
        raise OutputError(f"{folder}: is not empty and was not made by the demo; choose another folder with -o")
    check_report(folder)
    for name in ("digits", "parent-1", "parent-2"):
        if os.path.lexists(folder / name) and not (folder / name).is_dir():
            raise OutputError(f"{folder / name}: a file is in the way; move it, or choose another folder with -o")
    check_target(folder / "fused", "replace")


def _check_name(name: str) -> None:
    """The record and the card of the model are UTF-8 and hold the names of its inputs."""
    if "\0" in name or name != name.encode(errors="replace").decode():
        raise ConfigError(f"{name}: not a name in UTF-8; rename it, or link to it")
