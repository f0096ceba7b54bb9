"""What is not copied with a fused model: other files, and settings that refer to code."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from transfuse.checkpoint.reading.companions import ADAPTER_FILES, CARD, CONFIG, RECORD, companion_files, weight_names
from transfuse.checkpoint.record.copied_files import CopiedFiles
from transfuse.checkpoint.writing.owned import REPORT_JSON, REPORT_PAGE, is_own_file, is_run_folder, json_or_none

MAX_LISTED = 200  # file names in the record
CODE_KEYS = ("auto_map", "custom_pipelines")  # keys of JSON files that refer to code


def file_record(files: CopiedFiles) -> dict[str, Any]:
    """Return the part of `transfuse.json` that lists which files are copied, and which are not."""
    names = sorted({name for folder in files.folders for name in _not_copied(folder, files.names())})
    sources = {} if files.config is None else {CONFIG: files.config}
    sources |= {name: folder for name, folder in files.companions.items() if _has_settings(name)}
    settings = {name: json_or_none(folder / name) for name, folder in sources.items()}
    dropped = {
        f"{key}_dropped": [name for name in settings if _code_references(settings[name], (key,))] for key in CODE_KEYS
    }
    return {
        "copied": sorted(files.companions),
        "sentence_transformers": sorted(files.sentences),
        "left_out": names[:MAX_LISTED],
        "left_out_count": len(names),
        **dropped,
    }


def _not_copied(source: Path, copied: Collection[str]) -> Iterator[str]:
    """Yield the entries of a folder that are not copied, except hidden ones, weights, configuration, card and record.

    The name of a folder ends with a slash. Reports and folders of transfuse's runs are not part of the model.
    """
    partly_copied = {name.partition("/")[0] for name in copied if "/" in name}
    known = {CONFIG, CARD, RECORD, *weight_names(source), *ADAPTER_FILES, *copied}
    for entry in source.iterdir():
        if entry.name.startswith(".") or entry.name in known:
            continue
        if entry.name in (REPORT_PAGE, REPORT_JSON) and is_own_file(entry):
            continue
        if entry.is_dir() and is_run_folder(entry):
            continue
        if entry.name not in partly_copied:
            yield f"{entry.name}/" if entry.is_dir() else entry.name
            continue
        inner = (f"{entry.name}/{file.name}" for file in entry.iterdir())
        yield from (name for name in inner if name not in copied)


def _has_settings(name: str) -> bool:
    return name.endswith("config.json")


def drop_code_references(folder: Path) -> None:
    """Remove the keys that refer to code from a saved model's settings, if any of that code is not in the folder."""
    for name in filter(_has_settings, (CONFIG, *companion_files(folder))):
        settings = json_or_none(folder / name)
        if all(_is_code_present(folder, reference) for reference in _code_references(settings)):
            continue
        text = json.dumps(_without_code_references(settings), indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def _code_references(settings: Any, keys: Sequence[str] = CODE_KEYS) -> list[Any]:
    """Return the values of all keys that refer to code, at any depth."""
    if isinstance(settings, list):
        return [reference for item in settings for reference in _code_references(item, keys)]
    if not isinstance(settings, dict):
        return []
    references = [value for key, value in settings.items() if key in keys and value]
    nested = (value for key, value in settings.items() if key not in CODE_KEYS)
    return references + [reference for value in nested for reference in _code_references(value, keys)]


def _without_code_references(settings: Any) -> Any:
    if isinstance(settings, list):
        return [_without_code_references(item) for item in settings]
    if not isinstance(settings, dict):
        return settings
    return {key: _without_code_references(value) for key, value in settings.items() if key not in CODE_KEYS}


def _is_code_present(folder: Path, reference: Any) -> bool:
    """Return whether all files that a reference to code names are in the folder."""
    if isinstance(reference, dict):
        return all(_is_code_present(folder, item) for item in reference.values())
    if isinstance(reference, list | tuple):
        return all(_is_code_present(folder, item) for item in reference)
    return not isinstance(reference, str) or (folder / f"{reference.partition('.')[0]}.py").is_file()
