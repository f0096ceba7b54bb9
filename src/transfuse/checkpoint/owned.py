"""Which entries of a folder were written by this tool or by save_pretrained; all others are the user's."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from transfuse.base.unique_json import read_json
from transfuse.checkpoint.companions import (
    CARD,
    COMPANION_PATTERNS,
    CONFIG,
    EXTRA_PATTERNS,
    RECORD,
    SENTENCE_PATTERNS,
    matches_any,
    weight_names,
)

REPORT_PAGE, REPORT_JSON = "report.html", "report.json"
GENERATOR_TAG = '<meta name="generator" content="transfuse">'  # in the head of a page
CACHE_FOLDER = re.compile(r"[0-9a-f]{20}")  # a folder of finished work, as a cache holds
MARKER = ".transfuse"  # a file in a folder that is a run's own, to be removed with it
RUN_FILE = "run.json"  # what the state of a fine-tuning run is the state of
RUN_STATE = re.compile(r"(tmp-)?checkpoint-\d+|run\.json|\.run\.partial-[0-9a-f]{8}\.json")  # what its folder holds
DEMO_MARKER = ".transfuse-demo"  # a file in a folder that the demo made


def first_foreign_entry(folder: Path) -> str | None:
    """Return the first entry of a model's folder, by name, that neither this tool nor save_pretrained wrote.

    The name of a folder ends with a slash. Raises OSError.
    """
    record = json_or_none(folder / RECORD)
    copied = _listed(record, "sentence_transformers") | _listed(record, "copied")
    known = weight_names(folder) | {CONFIG}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if (found := _foreign_inside(entry, copied)) is not None:
                return found
        elif not entry.is_file() or not (entry.name in known or _written(entry, copied)):
            return entry.name
    return None


def missing_model_part(folder: Path) -> str | None:
    """Return what a folder would need to hold a model, or None: a configuration of transformers, and weights."""
    if not (folder / CONFIG).is_file():
        return f"has no {CONFIG}"
    found = json_or_none(folder / CONFIG)
    if not isinstance(found, dict) or not (found.get("model_type") or found.get("architectures")):
        return f"its {CONFIG} names no model_type and no architectures"
    return None if any((folder / name).is_file() for name in weight_names(folder)) else "has no weights"


def is_damaged(file: Path) -> bool:
    """Tell whether a file of JSON is there and cannot be read as such."""
    return file.is_file() and json_or_none(file) is None


def is_run_folder(folder: Path) -> bool:
    """Tell whether a folder is a run's own: an output, unfinished work, a cache, the state of training, or empty."""
    names = os.listdir(folder)
    if MARKER in names or is_own_file(folder / RECORD):
        return True
    return all(CACHE_FOLDER.fullmatch(name) for name in names) or (
        RUN_FILE in names and all(RUN_STATE.fullmatch(name) for name in names)
    )


def _listed(record: Any, key: str) -> set[str]:
    listed = record.get(key) if isinstance(record, dict) else None
    return {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()


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
    templates = matches_any(path, [pattern for pattern in COMPANION_PATTERNS if "/" in pattern])
    return templates or (path in copied and path.endswith(f"/{CONFIG}"))


def _written(file: Path, copied: Collection[str]) -> bool:
    if file.name in (CARD, RECORD, REPORT_PAGE, REPORT_JSON):
        return is_own_file(file)
    if matches_any(file.name, (*EXTRA_PATTERNS, *SENTENCE_PATTERNS)):
        return file.name in copied
    return matches_any(file.name, COMPANION_PATTERNS)


def is_own_file(file: Path) -> bool:
    """Tell whether this tool wrote a model card, a record, or a file of a report; False for any other name."""
    if file.name == RECORD:
        return _is_record(json_or_none(file))
    if file.name == CARD:
        return _is_record(json_or_none(file.with_name(RECORD))) and _is_card(_text(file))
    if file.name == REPORT_PAGE:
        return GENERATOR_TAG in _text(file)[:2000]
    if file.name == REPORT_JSON:
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
