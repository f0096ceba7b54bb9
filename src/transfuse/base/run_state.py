"""The saved state of a long run, from which it resumes after an interruption."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        content = path.read_bytes()
        checksum = content[:DIGEST_BYTES]
        data = content[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() == checksum:
            state = dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except Exception:  # absent, or damaged in any way: the run starts from the beginning
        pass
    return state if process_group().all_equal(None if state is None else checksum.hex()) else None


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the saved state atomically.

    Raises:
        OutputError: it cannot be written; the previous state is unchanged.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    data = buffer.getvalue()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as partial:
            partial.write_bytes(hashlib.sha256(data).digest() + data)
    except OSError as error:
        raise OutputError(f"{path}: the state of the run cannot be written ({error.strerror})") from error
