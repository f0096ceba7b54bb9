"""Which entries of a folder were written by this tool or by save_pretrained; all others are the user's."""

import os
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from transfuse.io.companions import BESIDE, CARD, CONFIG, RECORD, SENTENCES, weights
from transfuse.io.strict import read_json

PAGE, DOCUMENT = "report.html", "report.json"
GENERATOR = '<meta name="generator" content="transfuse">'  # in the head of a page
MADE_BY_DEMO = ".transfuse-demo"  # a file in a folder that the demo made


def foreign(folder: Path) -> str | None:
    """Return the first entry of a model's folder, by name, that neither this tool nor save_pretrained wrote.

    The name of a folder ends with a slash. Raises OSError.
    """
    record = json_or_none(folder / RECORD)
    listed = record.get("sentence_transformers") if isinstance(record, dict) else None
    copied = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
    known = weights(folder) | {CONFIG}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if (found := _foreign_inside(entry, copied)) is not None:
                return found
        elif not entry.is_file() or not (entry.name in known or _written(entry, copied)):
            return entry.name
    return None


def _foreign_inside(folder: Path, copied: Collection[str]) -> str | None:
    """Return the same for a folder inside, which may hold settings of modules that were copied, and chat templates."""
    name = f"{folder.name}/"
    files = [] if folder.is_symlink() else sorted(os.listdir(folder))
    if not files:
        return None if name in copied and not folder.is_symlink() else name
    ours = [f"{name}{file}" for file in files if (folder / file).is_file() and _known_inside(f"{name}{file}", copied)]
    theirs = [f"{name}{file}" for file in files if f"{name}{file}" not in ours]
    return (theirs[0] if ours else name) if theirs else None


def _known_inside(path: str, copied: Collection[str]) -> bool:
    templates = any(fnmatchcase(path, pattern) for pattern in BESIDE if "/" in pattern)
    return templates or (path in copied and path.endswith(f"/{CONFIG}"))


def _written(file: Path, copied: Collection[str]) -> bool:
    if file.name in (CARD, RECORD, PAGE, DOCUMENT):
        return is_ours(file)
    sentences = file.name in copied and any(fnmatchcase(file.name, pattern) for pattern in SENTENCES)
    return sentences or any(fnmatchcase(file.name, pattern) for pattern in BESIDE)


def is_ours(file: Path) -> bool:
    """Tell whether this tool wrote a model card, a record, or a file of a report; False for any other name."""
    if file.name == RECORD:
        return _is_record(json_or_none(file))
    if file.name == CARD:
        return _is_record(json_or_none(file.with_name(RECORD))) and _is_card(_text(file))
    if file.name == PAGE:
        return GENERATOR in _text(file)[:2000]
    if file.name == DOCUMENT:
        found = json_or_none(file)
        return isinstance(found, dict) and {"title", "verdict", "command", "record", "matched"} <= found.keys()
    return False


def _is_record(found: Any) -> bool:
    return isinstance(found, dict) and "versions" in found and ("models" in found or "finetuned" in found)


def _is_card(text: str) -> bool:
    """Tell whether the front matter has the tag that all of this tool's cards have."""
    head = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        found = yaml.safe_load(head[1]) if head else None
    except (yaml.YAMLError, RecursionError, ValueError):
        return False
    tags = found.get("tags") if isinstance(found, dict) else None
    return isinstance(tags, list) and "transfuse" in tags


def json_or_none(file: Path) -> Any:
    """Return what a file holds; None where that cannot be read."""
    try:
        return read_json(file)
    except (OSError, ValueError, RecursionError):
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
