"""What is known to be wrong before a model or a library is loaded: options, and places to write."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfuse.base.folders import probe
from transfuse.checkpoint.output import Overwrite, check_target
from transfuse.checkpoint.owned import DOCUMENT, MADE_BY_DEMO, MARKER, PAGE, STATE, is_ours
from transfuse.config.options import Job, Options, make
from transfuse.config.yaml_file import read
from transfuse.errors import ConfigError, OutputError
from transfuse.finetuning.schedule import Schedule, check_taught

PLOTS = (".png", ".svg")
MEASURES = ("loss", "accuracy")  # that a landscape can show


def fuse_request(flags: Mapping[str, Any], config: Path | None) -> Job:
    """The job that flags and configuration file ask for; flags win. Raises `ConfigError` or `OutputError`."""
    values, labels = read(config) if config else ({}, {})
    given, flag_labels = _given(flags)
    job = make(Job, values | given, labels | flag_labels)
    if len(job.models) < 2:
        raise ConfigError(f"{len(job.models)} models given; give two or more, the anchor first")
    if not job.output:
        raise ConfigError("no output given; say where to write with -o OUT")
    job.normalised_weights(len(job.models))
    for name in (*job.models, job.data, job.output, job.cache):
        _check_name(name or "")
    check_target(Path(job.output), policy(job), [*map(Path, job.models), *_there(job.data, job.spec, config)])
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


def policy(job: Job) -> Overwrite:
    """What to do with an output that is there."""
    return "replace" if job.overwrite else "refuse"


def options(flags: Mapping[str, Any]) -> Options:
    """The options that flags ask for. Raises `ConfigError`."""
    return make(Options, *_given(flags))


def landscape_options(flags: Mapping[str, Any], metric: str) -> Options:
    """The options that `transfuse landscape` is asked for. Raises `ConfigError`."""
    if metric not in MEASURES:
        raise ConfigError(f"--metric: {metric!r} is not one of {', '.join(MEASURES)}")
    if flags.get("align") not in ("exact", "none"):
        raise ConfigError(
            f"--align: {flags.get('align')!r} is not one of exact, none: others change what models compute"
        )
    evidence = flags["evidence"] if flags["align"] == "exact" else None
    return options({"merge": "mean"} | dict(flags) | {"evidence": evidence})


def memory(given: str | None) -> int | None:
    """The bytes that --max-memory allows. Raises `ConfigError`."""
    return limits(given, None)[0]


def limits(memory: str | None, device_memory: str | None) -> tuple[int | None, int | None]:
    """The bytes that --max-memory and --max-device-memory allow. Raises `ConfigError`."""
    job = make(Job, *_given({"max_memory": memory, "max_device_memory": device_memory}))
    return job.max_memory, job.max_device_memory


def schedule(flags: Mapping[str, Any]) -> Schedule:
    """The schedule that flags ask for. Raises `ConfigError`."""
    values, labels = _given(flags)
    teachers = values.pop("teachers", ())
    chosen = make(Schedule, values, labels)
    check_taught(values, teachers, labels)
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
    others = [path.name for path in sorted(state.glob("*")) if not STATE.fullmatch(path.name)]
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
    if target.suffix.lower() not in PLOTS:
        raise OutputError(f"{target}: a picture is a {' or '.join(PLOTS)} file; change the ending")
    if target.is_dir():
        raise OutputError(f"{target}: is a directory; choose another name")
    try:
        probe(target, parents=False)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another place") from error


def check_folder(target: Path) -> None:
    """Raise `OutputError` unless files can be written to the folder `target`, which may have to be made."""
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: a file is in the way; choose another folder")
    try:
        probe(target / "file")
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another folder") from error


def check_report(folder: Path) -> None:
    """Raise `OutputError` unless a report can be written to a folder without loss of a file that is no report."""
    check_folder(folder)
    for name in (PAGE, DOCUMENT):
        file = folder / name
        if os.path.lexists(file) and not is_ours(file):
            raise OutputError(
                f"{file}: transfuse did not write it and does not replace it; move it, or choose a folder with -o"
            )


def check_demo(folder: Path) -> None:
    """Raise `OutputError` unless `folder` is absent, empty, or what the demo made before, and the page may go there."""
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MADE_BY_DEMO).is_file():
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


def _given(flags: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The flags that were used, and how they are spelled."""
    given = {name: value for name, value in flags.items() if value not in (None, (), [])}
    return given, {name: f"--{name.replace('_', '-')}" for name in given} | {"models": "MODELS"}
