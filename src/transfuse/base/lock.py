"""Locks that keep two runs from writing one output, held until the block or the process ends, however it ends.

Descriptors are locked, not paths, because `filelock.FileLock` cannot hold a folder and never removes its file. A
folder that is locked itself needs no lock file and stays locked when it is renamed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from transfuse.base.folders import expanded, make_folder, remove_empty
from transfuse.errors import OutputError


@contextmanager
def file_lock(file: Path, output: str, keep: bool = True) -> Iterator[None]:
    """Hold a lock on `file`, which is created if it does not exist.

    Args:
        output: what the holder writes, for the error message.
        keep: whether the file stays. A run that is killed leaves it in any case, and the next one locks it again.

    Raises:
        OutputError: another process holds the lock.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            _lock(descriptor, output)
            if not _is_same_file(descriptor, file):  # the previous holder removed the file after it was opened here
                continue
            try:
                yield
            finally:
                if not keep:
                    with suppress(OSError):  # Windows does not remove an open file
                        file.unlink()
            return
        finally:
            os.close(descriptor)


@contextmanager
def folder_lock(folder: Path, output: str) -> Iterator[None]:
    """Hold a lock on the folder itself, as `file_lock` does on a file; the lock survives a rename.

    Raises:
        OutputError: another process holds the lock.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows does not open folders
        yield
        return
    try:
        _lock(descriptor, output)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Return whether a process holds a `folder_lock` on a folder."""
    try:
        with folder_lock(folder, folder.name):
            return False
    except OutputError:
        return True


@contextmanager
def output_lock(output: Path) -> Iterator[None]:
    """Hold the lock of an output, whatever cache the run uses; parents made for it are removed if they stay empty.

    Raises:
        OutputError: another run holds the lock.
    """
    file = output_lock_path(output)
    created = [parent for parent in file.parents if not parent.exists()]
    make_folder(file.parent)
    try:
        with file_lock(file, str(output), keep=False):
            yield
    finally:
        remove_empty(created)


def output_lock_path(output: Path) -> Path:
    """Return the hidden file beside an output that every run writing this output locks, and removes when it ends."""
    target = expanded(output).resolve()
    return target.with_name(f".{target.name}.lock")


def _lock(descriptor: int, output: str) -> None:
    """Lock a descriptor until it is closed. A file system without locks, as some NFS mounts are, locks nothing."""
    try:
        locked = lock_descriptor(descriptor, blocking=False)
    except OSError:
        return
    if not locked:
        raise OutputError(f"{output}: another run is writing it; wait for it, or choose another output")


def _is_same_file(descriptor: int, file: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), file.stat())
    return False
