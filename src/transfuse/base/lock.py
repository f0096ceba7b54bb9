"""One run at a time where two would take away what the other needs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from transfuse.base.folders import make_folder, remove_empty
from transfuse.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows has none: there, nobody is warned
    fcntl = None  # type: ignore[assignment]

Got = Literal["held", "busy"]


@contextmanager
def file_lock(file: Path, what: str, keep: bool = True) -> Iterator[None]:
    """Hold a file, made if need be, until the block ends or the process does, however it does.

    Args:
        what: is to be written, for the complaint.
        keep: whether the file stays; a run that is killed leaves it in any case, and the next takes it.

    Raises:
        OutputError: another process holds it.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if _lock(descriptor) == "busy":
                raise OutputError(f"{what}: another run is writing it; wait for it, or choose another output")
            if not _is_at(descriptor, file):  # whoever held it has removed it meanwhile
                continue
            try:
                yield
            finally:
                if not keep:
                    with suppress(OSError):  # Windows removes no open file
                        file.unlink()
            return
        finally:
            os.close(descriptor)


@contextmanager
def folder_lock(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder itself, which leaves no file, as `file_lock` does; it stays held under any name it is given."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield
        return
    try:
        if _lock(descriptor) == "busy":
            raise OutputError(f"{what}: another run is writing it; wait for it, or choose another output")
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Tell whether a process holds a folder."""
    try:
        with folder_lock(folder, folder.name):
            return False
    except OutputError:
        return True


@contextmanager
def output_lock(output: Path) -> Iterator[None]:
    """Hold an output, whatever else the run uses; its parents are made, and stay only if they come to hold something.

    Raises:
        OutputError: another run holds it.
    """
    file = output_lock_path(output)
    absent = [parent for parent in file.parents if not parent.exists()]
    make_folder(file.parent)
    try:
        with file_lock(file, str(output), keep=False):
            yield
    finally:
        remove_empty(absent)


def output_lock_path(output: Path) -> Path:
    """Return the file that whoever writes an output holds, whatever else it uses: hidden, and gone with the run."""
    target = output.expanduser().resolve()
    return target.with_name(f".{target.name}.lock")


def _lock(descriptor: int) -> Got:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "busy"
    except OSError:  # a file system without locks
        pass
    return "held"


def _is_at(descriptor: int, file: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), file.stat())
    return False
