"""JSON in which every key stands once: of two values a reader would take one, without a word of the other."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """What a file in UTF-8 holds. Raises OSError, RecursionError, or ValueError for what is no JSON or ambiguous."""
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """What a text holds. Raises RecursionError, or ValueError for what is no JSON or ambiguous."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice")
    return found
