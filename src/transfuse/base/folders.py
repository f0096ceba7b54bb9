"""Making folders, and trying whether they can be made, while other runs make and remove the same ones."""

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

TRIES = 8  # another run may remove a parent that it no longer needs, each time before the folder below is made


def make_folder(folder: Path, exist_ok: bool = True) -> None:
    """Make a folder and its parents, again if a parent vanishes meanwhile. Raises OSError."""
    for pause in range(TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
            return
        except (FileNotFoundError, FileExistsError):
            if pause == TRIES - 1:
                raise
            time.sleep(0.002 * pause)


def check_creatable(target: Path, parents: bool = True) -> None:
    """Make and remove a folder as deep as `target`; permission bits alone do not tell (root, read-only mounts).

    All that is made has a name of its own, so that nothing is removed which another run made or is about to use.

    Args:
        parents: whether folders above `target` may be missing.

    Raises:
        OSError: such a folder cannot be made.
    """
    for pause in range(TRIES):
        there = target.parent
        while parents and there != there.parent and not os.path.lexists(there):
            there = there.parent
        try:
            _try_below(there, target)
            return
        except FileNotFoundError:  # the folder was another run's, which removed it
            if not parents or pause == TRIES - 1:
                raise
            time.sleep(0.002 * pause)


def _try_below(there: Path, target: Path) -> None:
    between = target.parent.relative_to(there).parts
    first = hidden_sibling(there / target.name, "partial")
    try:
        first.mkdir()
        if between:
            hidden_sibling(first.joinpath(*between, target.name), "partial").mkdir(parents=True)
    finally:
        shutil.rmtree(first, ignore_errors=True)


def hidden_sibling(path: Path, kind: str) -> Path:
    """Return a hidden name beside `path` that no other run has."""
    return path.with_name(f".{path.name}.{kind}-{secrets.token_hex(4)}")


def remove_empty(directories: Sequence[Path]) -> None:
    """Remove those of `directories`, innermost first, that are there and empty."""
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()
