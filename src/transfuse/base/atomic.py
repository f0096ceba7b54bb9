"""A file that is written whole or not at all."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replace_atomically(target: Path) -> Iterator[Path]:
    """Yields a hidden name beside `target`, of the same ending; what is written there becomes `target`, on the disk by
    then, when the block ends without an error.
    """
    partial = target.with_name(f".{target.stem}.partial-{secrets.token_hex(4)}{target.suffix}")
    try:
        yield partial
        fsync_file(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def fsync_file(path: Path) -> None:
    """Wait until the file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: Exception) -> bool:
    """Whether it says that the disk, or what may be used of it, is full."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    return any(f"(os error {number})" in str(error) for number in _FULL)  # Rust's wording, all that safetensors keeps
