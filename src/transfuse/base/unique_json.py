"""JSON without duplicate keys, of which other readers would silently take one."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """Return the content of a JSON file in UTF-8.

    Raises:
        OSError: the file cannot be read.
        RecursionError: the nesting is too deep.
        ValueError: the content is not JSON, or has a key twice.
    """
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Return the content of a JSON text; `read_json` lists the errors."""
    return json.loads(text, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{duplicate!r} is given twice")
    return content
