"""Which entries of a folder transfuse or save_pretrained wrote; all others belong to the user."""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from transfuse.base.atomic import partial_pattern
from transfuse.base.unique_json import read_json
from transfuse.checkpoint.cards.front_matter import front_matter
from transfuse.checkpoint.reading.companions import (
    ADAPTER_FILES,
    CARD,
    COMPANION_PATTERNS,
    CONFIG,
    EXTRA_PATTERNS,
    RECORD,
    SENTENCE_PATTERNS,
    matches_any,
    weight_names,
)

REPORT_PAGE = "report.html"
REPORT_JSON = "report.json"
GENERATOR_TAG = '<meta name="generator" content="transfuse">'  # in the head of a report
CACHE_FOLDER = re.compile(r"[0-9a-f]{20}")  # name of a folder of finished work in a cache
ADAPTER = "adapter"  # folder in an output that holds the difference from its base
ADAPTER_PATHS = {f"{ADAPTER}/{name}" for name in (*ADAPTER_FILES, CARD)}
MARKER = ".transfuse"  # file in a folder that a run created for itself and removes in the end
RUN_FILE = "run.json"  # file that describes a fine-tuning run, beside its saved state
RUN_STATE = re.compile(rf"(tmp-)?checkpoint-\d+|run\.json|{partial_pattern(RUN_FILE)}")  # entries of its folder
UNFINISHED = re.compile("|".join(map(partial_pattern, (CARD, RECORD, REPORT_PAGE, REPORT_JSON))))  # by a killed run
DEMO_MARKER = ".transfuse-demo"  # file in a folder that the demo created


def first_foreign_entry(folder: Path) -> str | None:
    """Return the first entry of a model's folder, by name, that neither transfuse nor save_pretrained wrote.

    The name of a folder ends with a slash.

    Raises:
        OSError: the folder cannot be read.
    """
    record = json_or_none(folder / RECORD)
    copied = _names_in(record, "sentence_transformers") | _names_in(record, "copied")
    if isinstance(record, dict) and "adapter" in record:
        copied |= ADAPTER_PATHS
    known = weight_names(folder) | {CONFIG}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if (foreign := _foreign_entry_of_subfolder(entry, copied)) is not None:
                return foreign
        elif not entry.is_file() or not (entry.name in known or _is_known_file(entry, copied)):
            return entry.name
    return None


def missing_model_part(folder: Path) -> str | None:
    """Return what a folder lacks to be a model, a configuration of transformers or weights; None if it is one."""
    if not (folder / CONFIG).is_file():
        return f"has no {CONFIG}"
    config = json_or_none(folder / CONFIG)
    if not isinstance(config, dict) or not (config.get("model_type") or config.get("architectures")):
        return f"its {CONFIG} names no model_type and no architectures"
    return None if any((folder / name).is_file() for name in weight_names(folder)) else "has no weights"


def is_damaged(file: Path) -> bool:
    """Return whether a JSON file exists and cannot be read."""
    return file.is_file() and json_or_none(file) is None


def is_run_folder(folder: Path) -> bool:
    """Return whether a folder belongs to a run: an output, unfinished work, a cache or training state, or is empty."""
    names = os.listdir(folder)
    if MARKER in names or is_own_file(folder / RECORD):
        return True
    return all(CACHE_FOLDER.fullmatch(name) for name in names) or (
        RUN_FILE in names and all(RUN_STATE.fullmatch(name) for name in names)
    )


def _names_in(record: Any, key: str) -> set[str]:
    names = record.get(key) if isinstance(record, dict) else None
    return {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()


def _foreign_entry_of_subfolder(folder: Path, copied: Collection[str]) -> str | None:
    """Return the first foreign entry of a subfolder, which may hold copied settings of modules and chat templates.

    If all its entries are foreign, return the name of the subfolder.
    """
    name = f"{folder.name}/"
    files = [] if folder.is_symlink() else sorted(os.listdir(folder))
    if not files:
        return None if name in copied and not folder.is_symlink() else name
    known = [file for file in files if (folder / file).is_file() and _is_known_path(f"{name}{file}", copied)]
    foreign = [f"{name}{file}" for file in files if file not in known]
    return (foreign[0] if known else name) if foreign else None


def _is_known_path(path: str, copied: Collection[str]) -> bool:
    is_template = matches_any(path, [pattern for pattern in COMPANION_PATTERNS if "/" in pattern])
    return is_template or (path in copied and (path.endswith(f"/{CONFIG}") or path in ADAPTER_PATHS))


def _is_known_file(file: Path, copied: Collection[str]) -> bool:
    if UNFINISHED.fullmatch(file.name):
        return True
    if file.name in (CARD, RECORD, REPORT_PAGE, REPORT_JSON):
        return is_own_file(file)
    if matches_any(file.name, (*EXTRA_PATTERNS, *SENTENCE_PATTERNS)):
        return file.name in copied
    return matches_any(file.name, COMPANION_PATTERNS)


MADE = ("models", "finetuned", "shrunk")  # what a record is about: models that were fused, trained, or made smaller


def is_own_file(file: Path) -> bool:
    """Return whether transfuse wrote a model card, a record or a file of a report; False for any other name."""
    if file.name == RECORD:
        return _is_record(json_or_none(file))
    if file.name == CARD:
        return _is_record(json_or_none(file.with_name(RECORD))) and _is_card(_text_or_empty(file))
    if file.name == REPORT_PAGE:
        return GENERATOR_TAG in _text_or_empty(file)[:2000]
    if file.name == REPORT_JSON:
        report = json_or_none(file)
        return isinstance(report, dict) and {"title", "verdict", "command", "record", "matched"} <= report.keys()
    return False


def _is_record(content: Any) -> bool:
    return isinstance(content, dict) and "versions" in content and not content.keys().isdisjoint(MADE)


def _is_card(text: str) -> bool:
    """Return whether the front matter has the tag of all cards that transfuse writes."""
    tags = front_matter(text).get("tags")
    return isinstance(tags, list) and "transfuse" in tags


def json_or_none(file: Path) -> Any:
    """Return the content of a JSON file, or None if it cannot be read."""
    try:
        return read_json(file)
    except (OSError, ValueError, RecursionError):
        return None


def _text_or_empty(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
