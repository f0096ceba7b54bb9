"""The state of a long run, so that it can go on where it was cut short."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from transfuse.base.atomic import replace_atomically
from transfuse.base.distributed import process_group
from transfuse.errors import OutputError


def load_state(path: Path) -> dict[str, Any] | None:
    """What was saved; None if nothing was, or if it is damaged. To be called by all processes of a run together.

    All get the same; what one of them does not see, nobody gets.
    """
    state, told = None, b""
    try:
        data = path.read_bytes()
        told, data = data[: hashlib.sha256().digest_size], data[hashlib.sha256().digest_size :]
        if hashlib.sha256(data).digest() == told:
            state = dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except Exception:  # not there, or damaged by whatever: the run begins anew
        pass
    return state if process_group().all_equal(None if state is None else told.hex()) else None


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace what was saved, all at once. Raises `OutputError`."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    data = buffer.getvalue()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as partial:
            partial.write_bytes(hashlib.sha256(data).digest() + data)
    except OSError as error:
        raise OutputError(f"{path}: the state of the run cannot be written ({error.strerror})") from error
