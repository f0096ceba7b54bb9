"""Writing an output completely or not at all, first into a hidden folder beside it that is renamed in the end."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from transfuse.base.atomic import fsync_file, is_disk_full, replace_atomically
from transfuse.base.folders import check_creatable, expanded, hidden_sibling, make_folder, remove_empty
from transfuse.base.lock import folder_lock
from transfuse.checkpoint.reading.companions import RECORD
from transfuse.checkpoint.writing.owned import first_foreign_entry, is_damaged, missing_model_part
from transfuse.errors import ConfigError, DiskFullError, OutputError

Overwrite = Literal["refuse", "replace"] | bool  # False refuses, True replaces


def replaces(overwrite: Overwrite) -> bool:
    """Return whether an output that exists is replaced.

    Raises:
        ConfigError: `overwrite` is neither "refuse" or False, nor "replace" or True.
    """
    if isinstance(overwrite, bool):
        return overwrite
    if overwrite not in ("refuse", "replace"):
        raise ConfigError(f"overwrite: {overwrite!r:.80} is not one of refuse, replace; give one of them")
    return overwrite == "replace"


@contextmanager
def atomic_directory(target: Path, overwrite: Overwrite = "refuse", inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield an empty folder beside `target` that becomes `target` when the block ends without an error.

    An error or interrupt in the block leaves the file system as it was.

    Raises:
        ConfigError: before the block, as by `check_target`.
        OutputError: before the block, what `check_target` finds; after it, the disk is full or `target` has changed.
    """
    target = check_target(target, overwrite, inputs)
    created = [parent for parent in target.parents if not parent.exists()]
    partial = hidden_sibling(target, "partial")
    stack = ExitStack()
    try:
        with full_disk_said(target):
            _make_partial(partial, target)
            stack.enter_context(folder_lock(partial, str(target)))  # so that no other run removes it as stale
            yield partial
        try:
            _flush_files(partial)
            _rename_to_target(partial, target, replaces(overwrite))
        except OSError as error:
            raise OutputError(f"{target}: cannot be completed ({_reason(error)}); choose another directory") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(created)
        raise
    finally:
        stack.close()


@contextmanager
def full_disk_said(target: Path) -> Iterator[None]:
    """Turn the errors of Python, safetensors and torch for a full disk into one.

    Raises:
        DiskFullError: the disk is full.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(f"{target}: no space left to write it; free some space, or choose another disk") from error


def check_target(target: Path, overwrite: Overwrite = "refuse", inputs: Sequence[Path] = ()) -> Path:
    """Return the absolute path of `target` after checking that it can be written, leaving the file system unchanged.

    Raises:
        ConfigError: `overwrite` has another value than those of `Overwrite`.
        OutputError: `target` cannot be created; holds files that may not be replaced, or a file that one of `inputs`
            links to; or is or contains one of `inputs`, the home folder or the current folder.
    """
    replace = replaces(overwrite)
    try:
        target = expanded(target).resolve()
        protected = [expanded(path).resolve() for path in (*inputs, Path("~"), Path.cwd())]
        inner = next((path for path in protected if path.is_relative_to(target)), None)
        if inner is not None:
            raise OutputError(f"{target}: is or contains {inner}, which must stay; choose another directory")
        link = next((link for path in protected[: len(inputs)] for link in _links_into(path, target)), None)
        if link is not None:
            raise OutputError(
                f"{target}: holds the file that {link} links to, which must stay; choose another directory"
            )
        if target.is_dir():
            _check_replaceable(target, replace)
        elif target.exists():
            raise OutputError(f"{target}: a file is in the way; choose another directory")
        check_creatable(target)
    except (OSError, RuntimeError) as error:  # resolve() raises RuntimeError for circular links
        raise OutputError(f"{target}: cannot be written ({_reason(error)}); choose another directory") from error
    return target


def check_outside(target: Path, *data: str | Path | None) -> None:
    """Raise `OutputError` if `target` lies in a folder of data, where its files would be read as data."""
    for folder in (expanded(name) for name in data if name):
        if folder.is_dir() and expanded(target).resolve().is_relative_to(folder.resolve()):
            raise OutputError(
                f"{target}: lies in {folder}, so that its files would be read as data; choose another directory"
            )


def _links_into(folder: Path, target: Path) -> Iterator[Path]:
    """Yield the links in a folder of inputs, and in its direct subfolders, that lead to files inside `target`."""
    for pattern in ("*", "*/*") if folder.is_dir() else ():
        for file in folder.glob(pattern):
            if file.is_symlink() and file.is_file() and file.resolve().is_relative_to(target):
                yield file


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a path that replaces `target` atomically after the block, for a file that a user asked for.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with replace_atomically(target) as partial:
            partial.touch()  # names the reason, where safetensors would name its own temporary file
            yield partial
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{target}: cannot be written ({_reason(error)}); choose another place") from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as standard JSON; the file holds the complete old or new text at any time.

    Raises:
        OutputError: the file cannot be written.
        TypeError: JSON has no form for the type of a value.
        ValueError: JSON has no form for the value, such as NaN.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with replace_atomically(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)}); free space or choose another path") from error


def _check_replaceable(target: Path, replace: bool) -> None:
    """Raise OutputError if an existing folder may not be replaced."""
    if target.is_mount():
        raise OutputError(f"{target}: is a mount point, which cannot be renamed; choose a directory inside it")
    if not any(target.iterdir()):
        return
    if not replace:
        raise OutputError(
            f"{target}: is not empty; choose another directory, or pass --overwrite (in Python overwrite='replace')"
        )
    _check_no_foreign_entry(target, target)
    missing = missing_model_part(target)
    if missing is not None:
        raise OutputError(
            f"{target}: {missing}, so it does not look like a model output and is not replaced; choose another"
            " directory"
        )


def _check_no_foreign_entry(folder: Path, target: Path) -> None:
    """Raise OutputError if a folder holds an entry that neither transfuse nor save_pretrained wrote.

    Args:
        target: current or former name of the folder, for the message.
    """
    name = first_foreign_entry(folder)
    if name is not None and is_damaged(folder / RECORD):
        raise OutputError(
            f"{target}: its {RECORD} is damaged, so what else it holds cannot be told from other files and is not"
            f" replaced; restore or remove {RECORD}, or choose another directory"
        )
    if name is not None:
        raise OutputError(
            f"{target}: holds {name}, which neither transfuse nor save_pretrained wrote, so it does not look like a"
            f" model output and is not replaced; move {name}, or choose another directory"
        )


def _make_partial(partial: Path, target: Path) -> None:
    try:
        make_folder(partial, exist_ok=False)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise OutputError(f"{target}: cannot be written ({_reason(error)}); choose another directory") from error


def _flush_files(folder: Path) -> None:
    """Flush all files to disk, and make them as readable as the folder, because safetensors makes its files private."""
    mode = folder.stat().st_mode & 0o666
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)
            fsync_file(path)


def _rename_to_target(partial: Path, target: Path, replace: bool) -> None:
    """Rename `partial` to `target`; put an old folder aside first, and remove it afterward or put it back on failure.

    Once the old folder is aside, no other process finds it by name, so it is checked again for files added meanwhile.
    """
    if not replace or not target.exists():
        partial.replace(target)  # fails if files were added to `target` since it was checked
        return
    aside = hidden_sibling(target, "replaced")
    with folder_lock(target, str(target)):
        target.rename(aside)
        try:
            _check_no_foreign_entry(aside, target)
            partial.replace(target)
        except BaseException:
            aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
