"""The lock of an output, and what killed runs left beside it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Literal

from transfuse.base.folders import expanded
from transfuse.base.lock import is_locked, output_lock
from transfuse.checkpoint.writing.owned import first_foreign_entry, missing_model_part


@contextmanager
def locked_output(output: Path) -> Iterator[None]:
    """Hold the lock of an output, and remove what killed runs left beside it: old outputs once there is a new one.

    Raises:
        OutputError: another run holds the lock.
    """
    target = expanded(output).resolve()
    with output_lock(output):
        remove_stale_folders(target, "partial")
        yield
        remove_stale_folders(target, "replaced")


def remove_stale_folders(target: Path, kind: Literal["partial", "replaced"]) -> None:
    """Remove the folders that killed runs left beside `target`, except those that a running process has locked.

    Args:
        kind: "partial" for unfinished outputs; "replaced" for old outputs, to be removed once there is a new one.
    """
    for folder in target.parent.glob(f".{escape(target.name)}.{kind}-{'[0-9a-f]' * 8}"):
        if not is_locked(folder) and (kind == "partial" or _is_own_output(folder)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_own_output(folder: Path) -> bool:
    try:
        return first_foreign_entry(folder) is None and missing_model_part(folder) is None
    except OSError:
        return False
