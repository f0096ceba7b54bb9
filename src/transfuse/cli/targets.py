"""Decide where commands write, and check that they may, before a model or a slow library is loaded."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from transfuse.base.folders import check_creatable, expanded, place
from transfuse.checkpoint.writing.output import check_target
from transfuse.checkpoint.writing.owned import DEMO_MARKER, MARKER, REPORT_JSON, REPORT_PAGE, RUN_STATE, is_own_file
from transfuse.config.job import Job
from transfuse.errors import (
    CheckpointError,
    ConfigError,
    DiskFullError,
    InterruptedRunError,
    MemoryLimitError,
    OutputError,
)
from transfuse.finetuning.saved_state import complete_checkpoints

PLOT_SUFFIXES = (".png", ".svg")
MAPS_SUFFIX = ".safetensors"
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(@[\w./-]+)?")  # of models on the Hub: owner/name@revision


@dataclass(frozen=True)
class WorkDir:
    """Name the folder of a run's intermediate results.

    Attributes:
        persistent: whether the folder stays after the output is written.
    """

    folder: Path
    persistent: bool


def work_dir(job: Job, resume: bool) -> WorkDir:
    """Return the cache of the job, or else a folder beside the output, from which an interrupted run continues.

    Results are identified by the contents of the inputs, so results of another run are never used by mistake.

    Args:
        resume: whether the folder must have results of an interrupted run.

    Raises:
        ConfigError: `resume` is set without an interrupted run or with a cache, or the cache is inside the output.
        OutputError: the folder cannot be written, or another program made it.
    """
    target = Path(job.output or "")
    if job.cache is not None:
        cache = Path(job.cache)
        if resume:
            raise ConfigError("--resume: --cache already reuses all results of interrupted runs; leave --resume out")
        if not job.cache.strip() or cache.resolve().is_relative_to(target.resolve()):
            raise ConfigError(f"cache: {job.cache!r} is not a folder outside the output; choose another folder")
        check_folder(cache)
        return WorkDir(cache, persistent=True)
    return work_beside(target, resume, "fuse", "give another folder with --cache DIR")


def work_beside(output: Path, resume: bool, command: str, advice: str) -> WorkDir:
    """Return the folder beside an output from which an interrupted run continues.

    Args:
        resume: whether the folder must have results of an interrupted run.
        command: the command that makes the folder.
        advice: what else a user can do if another program made a folder of this name.

    Raises:
        ConfigError: `resume` is set without an interrupted run.
        OutputError: another program made a folder of this name.
    """
    target = expanded(output)
    folder = target.with_name(f"{target.name}.work")
    made_here = (folder / MARKER).is_file()
    if resume and not made_here:
        raise ConfigError(f"--resume: there is no interrupted run in {folder}; leave --resume out")
    if not made_here and (folder.is_symlink() or folder.exists()):
        raise OutputError(
            f"{folder}: exists, but {command} needs this name for intermediate results; move it, or {advice}"
        )
    return WorkDir(folder, persistent=False)


@contextmanager
def said_how_to_continue(folder: Path, flag: str = "with --resume ", pattern: str = "*") -> Iterator[None]:
    """Add how to go on to an interruption, or to an error for want of space, if there are intermediate results.

    Args:
        folder: where these are.
        flag: what the same command needs to continue.
        pattern: the names of these results in the folder.
    """
    try:
        yield
    except (KeyboardInterrupt, MemoryLimitError, DiskFullError) as error:
        if not any(folder.glob(pattern)):
            raise
        how = f"the same command {flag}continues from {folder}"
        if isinstance(error, KeyboardInterrupt):
            raise InterruptedRunError(f"interrupted; {how}") from error
        raise type(error)(f"{error}, and {how}") from error


@dataclass(frozen=True)
class TrainingTarget:
    """Name the output of fine-tuning and the folder of its training state.

    Attributes:
        checkpoints: the folder of the training state, which is removed after the output is written.
        resume: the checkpoint to resume from, or None.
    """

    output: Path
    overwrite: bool
    checkpoints: Path
    resume: str | None


def training_target(models: Sequence[str], output: str | None, resume: bool, replace: bool) -> TrainingTarget:
    """Return where a run of `transfuse finetune` writes.

    Args:
        models: the model and its teachers, which must not be overwritten.
        replace: whether to replace an output that exists.

    Raises:
        ConfigError: the output is missing, a name is invalid, or there is no state to resume from.
        OutputError: the output cannot be written, or the folder of the state has files of something else.
    """
    output = place(required_output(output))
    for name in (output, *models):
        check_name(name)
    target = check_target(Path(output), replace, [Path(model) for model in models])
    state = target.with_name(f"{target.name}.checkpoints")
    _check_state_folder(state)
    complete = complete_checkpoints(state)
    if resume and not complete:
        raise ConfigError(f"--resume: there is no complete state of an interrupted run in {state}; leave --resume out")
    if not resume and complete:
        raise interrupted_run(state)
    return TrainingTarget(Path(output), replace, state, str(complete[-1]) if resume else None)


def required_output(output: str | None) -> str:
    """Return where to write. Raise `ConfigError` if that is not said."""
    if not output:
        raise ConfigError("no output given; say where to write with -o OUT")
    return output


def interrupted_run(state: Path) -> OutputError:
    """Return the error for a new run where an interrupted one has left its state."""
    return OutputError(f"{state}: holds the state of an interrupted run; continue it with --resume, or remove it")


def _check_state_folder(state: Path) -> None:
    """Raise `OutputError` for anything but training state in the place of its folder."""
    if state.is_symlink() or (state.exists() and not state.is_dir()):
        raise OutputError(
            f"{state}: exists, but finetune needs this name for a folder of training state; move it, or choose another"
            " output"
        )
    other_files = [path.name for path in sorted(state.glob("*")) if not RUN_STATE.fullmatch(path.name)]
    if other_files:
        raise OutputError(
            f"{state}: holds {other_files[0]}, which finetune did not write; move it, or choose another output"
        )


def check_plot(target: Path) -> None:
    """Raise `OutputError` unless a plot can be written to `target`."""
    _check_file(target, PLOT_SUFFIXES, "plots are")


def check_maps(target: Path, output: Path) -> None:
    """Raise `OutputError` unless maps can be written to `target`, which must lie outside the output."""
    if expanded(target).resolve().is_relative_to(expanded(output).resolve()):
        raise OutputError(f"{target}: lies in the output, which holds a model and nothing else; choose another folder")
    _check_file(expanded(target), (MAPS_SUFFIX,), "maps are")


def _check_file(target: Path, suffixes: Sequence[str], subject: str) -> None:
    """Raise `OutputError` unless a file with one of these suffixes can be written to `target`."""
    if target.suffix.lower() not in suffixes:
        raise OutputError(f"{target}: {subject} {' or '.join(suffixes)} files; change the file extension")
    if target.is_dir():
        raise OutputError(f"{target}: is a directory; choose another name")
    try:
        check_creatable(target, parents=False)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another path") from error


def check_folder(target: Path) -> None:
    """Raise `OutputError` unless files can be written to the folder `target`, which may not exist yet."""
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target}: a file is in the way; choose another folder")
    try:
        check_creatable(target / "file")
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another folder") from error


def check_report(folder: Path) -> None:
    """Raise `OutputError` unless a report can be written to a folder without replacing a file of something else."""
    check_folder(folder)
    for name in (REPORT_PAGE, REPORT_JSON):
        file = folder / name
        if os.path.lexists(file) and not is_own_file(file):
            raise OutputError(
                f"{file}: was not written by transfuse and is not replaced; move it, or choose another folder with -o"
            )


def check_demo(folder: Path) -> None:
    """Raise `OutputError` unless `folder` is absent, empty or made by the demo, and the report can be written."""
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / DEMO_MARKER).is_file():
        raise OutputError(f"{folder}: is not empty and was not made by the demo; choose another folder with -o")
    check_report(folder)
    for name in ("digits", "parent-1", "parent-2"):
        if os.path.lexists(folder / name) and not (folder / name).is_dir():
            raise OutputError(f"{folder / name}: a file is in the way; move it, or choose another folder with -o")
    check_target(folder / "fused", overwrite=True)


def check_name(name: str) -> None:
    """Raise `ConfigError` unless a path or Hub name is valid UTF-8, as the record and the model card are."""
    if "\0" in name or name != name.encode(errors="replace").decode():
        raise ConfigError(f"{name}: is not a name in UTF-8; rename it, or link to it")


def check_paths(models: Sequence[str]) -> None:
    """Raise `CheckpointError` for a missing model whose name cannot be one on the Hub, before slow imports."""
    for name in models:
        if not HUB_NAME.fullmatch(name) and not os.path.lexists(expanded(name)):
            raise CheckpointError(f"{name}: no such directory; check the path")


def local_paths(*names: str | Path | None) -> list[Path]:
    """Return the names that are paths on this machine; others are names on the Hub."""
    paths = [expanded(name) for name in names if name]
    return [path for path in paths if os.path.lexists(path)]
