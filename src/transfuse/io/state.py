"""The state of a long run, so that it can go on where it was cut short."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from transfuse.errors import OutputError


def load_state(path: Path) -> dict[str, Any] | None:
    """What was saved; None if nothing was, or if it cannot be read."""
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True)) if path.exists() else None
    except Exception:  # damaged by whatever: the run begins anew
        return None


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace what was saved, all at once. Raises `OutputError`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(dict(state), partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OutputError(f"{path}: the state of the run cannot be written ({reason})") from error
