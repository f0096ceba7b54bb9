"""Writing an output: all of it or nothing. Work goes to a hidden sibling, which takes the name once it is complete."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from glob import escape
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from transfuse.base.atomic import fsync_file, is_disk_full, replace_atomically
from transfuse.base.folders import check_creatable, hidden_sibling, make_folder, remove_empty
from transfuse.base.lock import folder_lock, is_locked
from transfuse.checkpoint.companions import RECORD
from transfuse.checkpoint.owned import first_foreign_entry, is_damaged, missing_model_part
from transfuse.errors import OutputError

Overwrite = Literal["refuse", "replace"]


@contextmanager
def atomic_directory(target: Path, overwrite: Overwrite = "refuse", inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """Yields an empty directory beside `target` that becomes `target` when the block ends without an error.

    Whatever is raised inside, an interrupt too, leaves the file system as it was. Raises OutputError before the block
    for what `check_target` finds, and after it if the disk is full or `target` changed hands meanwhile.
    """
    target = check_target(target, overwrite, inputs)
    absent = [parent for parent in target.parents if not parent.exists()]
    partial, stack = hidden_sibling(target, "partial"), ExitStack()
    try:
        try:
            _make(partial, target)
            stack.enter_context(folder_lock(partial, str(target)))  # so that no other run takes it for remains
            yield partial
        except (OSError, SafetensorError) as error:
            if not is_disk_full(error):
                raise
            raise OutputError(f"{target}: no space left to write it; free some, or choose another disk") from error
        try:
            _settle(partial)
            _swap(partial, target, overwrite)
        except OSError as error:
            raise OutputError(f"{target}: cannot be completed ({_reason(error)}); choose another directory") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(absent)
        raise
    finally:
        stack.close()


def remove_stale_folders(target: Path, kind: Literal["partial", "replaced"]) -> None:
    """Removes what killed runs left beside `target`, but nothing that a live process holds.

    Args:
        kind: what was half-written; or what was put aside, once there is a new output.
    """
    for left in target.parent.glob(f".{escape(target.name)}.{kind}-{'[0-9a-f]' * 8}"):
        if not is_locked(left) and (kind == "partial" or _is_owned(left)):
            shutil.rmtree(left, ignore_errors=True)


def _is_owned(folder: Path) -> bool:
    try:
        return first_foreign_entry(folder) is None and missing_model_part(folder) is None
    except OSError:
        return False


def check_target(target: Path, overwrite: Overwrite = "refuse", inputs: Sequence[Path] = ()) -> Path:
    """The absolute path of `target`, found to be one that can be written; the file system is left as it was.

    Raises OutputError if it holds files that may not be replaced, is or contains one of `inputs`, a file that one of
    them links to, the home or the current directory, or cannot be created.
    """
    try:
        target = target.expanduser().resolve()
        kept = [Path(os.path.expanduser(path)).resolve() for path in (*inputs, Path("~"), Path.cwd())]
        inside = next((path for path in kept if path.is_relative_to(target)), None)
        if inside is not None:
            raise OutputError(f"{target}: is or contains {inside}, which must stay; choose another directory")
        link = next((link for path in kept[: len(inputs)] for link in _links_into(path, target)), None)
        if link is not None:
            raise OutputError(
                f"{target}: holds the file that {link} links to, which must stay; choose another directory"
            )
        if target.is_dir():
            _check_existing(target, overwrite)
        elif target.exists():
            raise OutputError(f"{target}: a file is in the way; choose another directory")
        check_creatable(target)
    except (OSError, RuntimeError) as error:  # resolve() raises RuntimeError for links that go round in circles
        raise OutputError(f"{target}: cannot be written ({_reason(error)}); choose another directory") from error
    return target


def _links_into(folder: Path, target: Path) -> Iterator[Path]:
    """Yields the links to files, in a folder of inputs and in those directly inside, that lead into `target`."""
    for pattern in ("*", "*/*") if folder.is_dir() else ():
        for file in folder.glob(pattern):
            if file.is_symlink() and file.is_file() and file.resolve().is_relative_to(target):
                yield file


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """`replace_atomically` for what a user asked for. Raises OutputError if it cannot be written."""
    try:
        with replace_atomically(target) as partial:
            yield partial
    except OSError as error:
        raise OutputError(f"{target}: cannot be written ({error.strerror}); choose another place") from error


def write_json(path: Path, obj: Any) -> None:
    """Writes `obj` as standard JSON to `path`, which holds the old text or the new, never a part.

    Raises OutputError if it cannot be written; TypeError or ValueError if `obj` has no JSON (NaN has none).
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with replace_atomically(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({_reason(error)}); free space or choose another path") from error


def _check_existing(target: Path, overwrite: Overwrite) -> None:
    if target.is_mount():
        raise OutputError(f"{target}: is a mount point, which cannot be renamed; choose a directory inside it")
    if not any(target.iterdir()):
        return
    if overwrite == "refuse":
        raise OutputError(
            f"{target}: is not empty; choose another directory, or pass --overwrite (in Python overwrite='replace')"
        )
    _check_owned(target, target)
    missing = missing_model_part(target)
    if missing is not None:
        raise OutputError(
            f"{target}: {missing}, so it does not look like a model output and is not replaced; choose another"
            " directory"
        )


def _check_owned(folder: Path, target: Path) -> None:
    """Raise OutputError if a folder, which is or was `target`, holds what neither transfuse nor transformers wrote."""
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


def _make(partial: Path, target: Path) -> None:
    try:
        make_folder(partial, exist_ok=False)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise OutputError(f"{target}: cannot be written ({_reason(error)}); choose another directory") from error


def _settle(directory: Path) -> None:
    """Flushes all files to the disk, readable to whom `directory` is: safetensors makes its own private."""
    mode = directory.stat().st_mode & 0o666
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)
            fsync_file(path)


def _swap(partial: Path, target: Path, overwrite: Overwrite) -> None:
    """Gives `partial` the name `target`. An old directory is put aside, deleted only after, and put back on failure.

    Once it is aside, no other process finds it by its name, so it is checked again for files that were added meanwhile.
    """
    if overwrite == "refuse" or not target.exists():
        partial.replace(target)  # fails if files came to be in `target` since it was checked
        return
    aside = hidden_sibling(target, "replaced")
    with folder_lock(target, str(target)):
        target.rename(aside)
        try:
            _check_owned(aside, target)
            partial.replace(target)
        except BaseException:
            aside.rename(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
