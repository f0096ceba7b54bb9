"""Helpers for tests of outputs."""

from pathlib import Path
from typing import Any

import pytest

from transfuse.checkpoint.writing.output import atomic_directory, check_target
from transfuse.errors import OutputError


def tree(root: Path) -> dict[str, str | None]:
    """Return the text of all files under `root`, hidden or not, by relative name; None for a folder."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def refuses(pattern: str, target: Path, **options: Any) -> None:
    """Check that `check_target` and `atomic_directory` refuse `target` with one line, the latter before its block."""
    for enter in (check_target, lambda *args, **kwargs: atomic_directory(*args, **kwargs).__enter__()):
        with pytest.raises(OutputError, match=pattern) as caught:
            enter(target, **options)
        assert "\n" not in str(caught.value)
