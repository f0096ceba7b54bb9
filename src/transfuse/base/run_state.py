"""The saved state of a long run, from which it resumes after an interruption."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch

from transfuse.base.atomic import replace_atomically
from transfuse.base.distributed import process_group
from transfuse.errors import OutputError

DIGEST_BYTES = hashlib.sha256().digest_size  # the file starts with the digest of what follows


def load_state(path: Path) -> dict[str, Any] | None:
    """Return the saved state, or None if there is none or it is damaged.

    All processes of a run must call this together. They get the same result: None unless each reads the same file.
    """
    state = None
    checksum = b""
    try:
        with path.open("rb") as file:
            checksum = file.read(DIGEST_BYTES)
            if hashlib.file_digest(file, "sha256").digest() == checksum:
                file.seek(DIGEST_BYTES)
                state = dict(torch.load(file, map_location="cpu", weights_only=True))
    except Exception:  # absent, or damaged in any way: the run starts from the beginning
        pass
    return state if process_group().all_equal(None if state is None else checksum.hex()) else None


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the saved state atomically, without a copy of it in memory.

    Raises:
        OutputError: it cannot be written; the previous state is unchanged.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as partial, partial.open("wb") as file:
            file.write(bytes(DIGEST_BYTES))  # in place of the digest of what follows
            digest = write_state(file, state)
            file.seek(0)
            file.write(digest)
    except OSError as error:
        raise OutputError(f"{path}: the state of the run cannot be written ({error.strerror})") from error


def write_state(file: IO[bytes], state: Mapping[str, Any]) -> bytes:
    """Write a state to an open file, which `torch.load` reads, and return the SHA-256 digest of what was written.

    Raises:
        OSError: it cannot be written.
    """
    hashed = _HashedFile(file)
    torch.save(dict(state), cast(IO[bytes], hashed))  # it only writes and flushes
    if hashed.error is not None:
        raise hashed.error
    return hashed.digest.digest()


class _HashedFile:
    """Hash what is written to a file.

    Attributes:
        digest: the hash of everything so far.
        error: the first error. It is not raised, because torch would raise another one instead.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self._file.write(data)
            except OSError as error:
                self.error = error
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing; the file is flushed when it is closed."""
