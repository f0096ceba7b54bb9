"""Creating folders, and checking that they can be created, while other runs create and remove the same ones."""

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from transfuse.errors import ConfigError

ATTEMPTS = 8  # another run may remove a parent that it no longer needs before the folder below it is created


def given_path(path: Any, name: str = "path", of: str = "a folder") -> Path:
    """Return the path of a folder, or of something else, which need not exist.

    Args:
        path: what the user gave.
        name: the name of the argument.
        of: what the path is of, in the message.

    Raises:
        ConfigError: it is not a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"{name}: {path!r:.80} is not a path; give that of {of}")
    return Path(path)


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with the home folder in place of `~`. Other names that begin with this sign stay as they are."""
    return Path(os.path.expanduser(path))


def place(path: str) -> str:
    """Return where to write, with the home folder in place of `~`; absolute if `..` follows a missing folder."""
    path = os.path.expanduser(path)
    passes_missing = any(each.name == ".." and not os.path.exists(each) for each in Path(path).parents)
    return os.path.realpath(path) if passes_missing else path


def cache_folder(cache: Any) -> Path | None:
    """Return the folder of a cache, which need not exist; None if there is none.

    Raises:
        ConfigError: it is not a path, or a file is in the way.
    """
    if cache is None:
        return None
    folder = given_path(cache, "cache")
    file = next((part for part in (folder, *folder.parents) if part.is_file()), None)
    if file is not None:
        raise ConfigError(f"cache: {file} is a file; give a folder")
    return folder


def make_folder(folder: Path, exist_ok: bool = True) -> None:
    """Create a folder and its parents; try again if another run removes a parent meanwhile.

    Raises:
        OSError: the folder cannot be created.
    """
    for attempt in range(ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=exist_ok)
            return
        except (FileNotFoundError, FileExistsError):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.002 * attempt)


def check_creatable(target: Path, parents: bool = True) -> None:
    """Check that `target` can be created, by creating and removing a folder at the same depth.

    Permission bits are not enough: they say nothing about root or read-only mounts. All folders created here have new
    names, so that none is removed that another run created or is about to use.

    Args:
        parents: whether folders above `target` may be missing.

    Raises:
        OSError: `target` cannot be created.
    """
    for attempt in range(ATTEMPTS):
        existing = target.parent
        while parents and existing != existing.parent and not os.path.lexists(existing):
            existing = existing.parent
        try:
            _create_and_remove(existing, target)
            return
        except FileNotFoundError:  # another run removed its folder meanwhile
            if not parents or attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.002 * attempt)


def _create_and_remove(existing: Path, target: Path) -> None:
    missing = target.parent.relative_to(existing).parts
    top = hidden_sibling(existing / target.name, "partial")
    try:
        top.mkdir()
        if missing:
            hidden_sibling(top.joinpath(*missing, target.name), "partial").mkdir(parents=True)
    finally:
        shutil.rmtree(top, ignore_errors=True)


def hidden_sibling(path: Path, kind: str) -> Path:
    """Return a hidden path beside `path` that no other run uses."""
    return path.with_name(f".{path.name}.{kind}-{secrets.token_hex(4)}")


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove the folders that exist and are empty; list inner folders before outer ones."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
