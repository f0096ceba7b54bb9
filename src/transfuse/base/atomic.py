"""Files that are written completely or not at all."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replace_atomically(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside `target`, with the same suffix, and move that file to `target` after the block.

    The file is flushed to disk before it is moved. If the block raises, the file is removed and `target` is unchanged.
    """
    partial = target.with_name(_partial_name(target.name, secrets.token_hex(4)))
    try:
        yield partial
        fsync_file(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def partial_pattern(name: str) -> str:
    """Return a pattern of the names of unfinished files of this name, which a killed run leaves behind."""
    return re.escape(_partial_name(name, "@")).replace("@", "[0-9a-f]{8}")


def _partial_name(name: str, number: str) -> str:
    path = Path(name)
    return f".{path.stem}.partial-{number}{path.suffix}"


def fsync_file(path: Path) -> None:
    """Wait until a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: Exception) -> bool:
    """Return whether an error reports that the disk is full, or a quota or file size limit is reached."""
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    messages = ["unexpected pos", *(f"(os error {number})" for number in DISK_FULL)]  # of torch, and of Rust
    return any(message in str(error) for message in messages)
