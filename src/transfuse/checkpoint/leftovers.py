"""What in a checkpoint's folder is not copied with its model: other files, and settings that name code."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transfuse.checkpoint.companions import CARD, CONFIG, RECORD, companion_files, weight_names
from transfuse.checkpoint.owned import REPORT_JSON, REPORT_PAGE, is_own_file, is_run_folder, json_or_none
from transfuse.checkpoint.sentences import sentence_files

LISTED = 200  # names of files in the record
CODE = ("auto_map", "custom_pipelines")  # keys of JSON files that name code to be run


def file_record(source: Path | None) -> dict[str, Any]:
    """Return what the record says of the anchor's files: which are copied, as for sentence-transformers, and which not.

    Args:
        source: the anchor's folder; None: it was passed in memory.
    """
    names = [] if source is None else sorted(_left_out(source))
    settings = {} if source is None else {name: json_or_none(source / name) for name in _settings(source)}
    dropped = {f"{key}_dropped": [name for name in settings if _code_in(settings[name], (key,))] for key in CODE}
    return {
        "copied": [] if source is None else companion_files(source),
        "sentence_transformers": [] if source is None else sentence_files(source),
        "left_out": names[:LISTED],
        "left_out_count": len(names),
        **dropped,
    }


def _left_out(source: Path) -> Iterator[str]:
    """Yield the entries that are neither hidden, weights, configuration, card nor record, and are not copied.

    Folders end with a slash. Those of this tool's runs are not the model's.
    """
    copied = {*companion_files(source), *sentence_files(source)}
    shared = {name.partition("/")[0] for name in copied if "/" in name}
    known = {CONFIG, CARD, RECORD, *weight_names(source), *copied}
    for entry in source.iterdir():
        if (
            entry.name.startswith(".")
            or entry.name in known
            or (entry.name in (REPORT_PAGE, REPORT_JSON) and is_own_file(entry))
        ):
            continue
        if entry.is_dir() and is_run_folder(entry):
            continue
        if entry.name not in shared:
            yield f"{entry.name}/" if entry.is_dir() else entry.name
            continue
        inside = (f"{entry.name}/{each.name}" for each in entry.iterdir())
        yield from (name for name in inside if name not in copied)


def _settings(folder: Path) -> list[str]:
    return [name for name in (CONFIG, *companion_files(folder)) if name.endswith("config.json")]


def drop_code_references(folder: Path) -> None:
    """Remove the keys that name code from the settings of a model that was written without that code."""
    for name in _settings(folder):
        found = json_or_none(folder / name)
        missing = [value for value in _code_in(found) if not _is_there(folder, value)]
        if missing:
            text = json.dumps(_without_code(found), indent=2, ensure_ascii=False) + "\n"
            (folder / name).write_text(text, encoding="utf-8")


def _code_in(found: Any, keys: Sequence[str] = CODE) -> list[Any]:
    """Return the values of all keys that name code, at any depth."""
    if isinstance(found, list):
        return [value for each in found for value in _code_in(each, keys)]
    if not isinstance(found, dict):
        return []
    here = [value for key, value in found.items() if key in keys and value]
    return here + [value for key, each in found.items() if key not in CODE for value in _code_in(each, keys)]


def _without_code(found: Any) -> Any:
    if isinstance(found, list):
        return [_without_code(each) for each in found]
    if not isinstance(found, dict):
        return found
    return {key: _without_code(value) for key, value in found.items() if key not in CODE}


def _is_there(folder: Path, named: Any) -> bool:
    """Tell whether all of the code that a key names lies in the folder."""
    if isinstance(named, dict):
        return all(_is_there(folder, each) for each in named.values())
    if isinstance(named, list | tuple):
        return all(_is_there(folder, each) for each in named)
    return not isinstance(named, str) or (folder / f"{named.partition('.')[0]}.py").is_file()
