"""JSON files: one row a line, a list of rows, or one object with a list of rows under one of its keys."""

import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, TypeGuard

import fsspec
from datasets import Dataset, concatenate_datasets

from transfuse.data.columns import TEXT_NAMES, listed_names
from transfuse.data.files.in_memory_columns import from_rows
from transfuse.data.files.text_files import ENCODING, escaped
from transfuse.data.text.messages import are_conversations
from transfuse.errors import DataError


def read_json_lines(files: list[Path]) -> Dataset:
    """Read files with one row a line."""
    return Dataset.from_json(escaped(files))


def json_rows(files: list[Path]) -> Dataset:
    """Read files of rows, each of which may be one object that holds them under a key.

    Raises:
        DataError: several keys of such an object hold rows.
    """
    nested = {path: rows for path in files if (rows := _rows_under_a_key(path)) is not None}
    parts: list[Dataset] = []
    for is_nested, group in groupby(files, nested.__contains__):
        if is_nested:
            parts.extend(from_rows(nested[path], str(path)) for path in group)
        else:
            parts.append(read_json_lines(list(group)))
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


def _rows_under_a_key(path: Path) -> list[dict[str, Any]] | None:
    """Return the rows that one object in a file holds; None if the file is something else, or one row."""
    value = _only_object(path)
    if value is None or _is_row(value):
        return None
    keys = [key for key, entry in value.items() if _are_rows(entry)]
    if len(keys) > 1:
        raise DataError(
            f"{path}: {listed_names(keys)} each hold rows; write those that are to be read to a file of their own"
        )
    return _with_questions(value[keys[0]]) if keys else None


def _with_questions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each question in articles like those of SQuAD (Rajpurkar et al., 2016); other rows as given."""
    paragraphs = [paragraph for row in rows if _are_rows(found := row.get("paragraphs")) for paragraph in found]
    if not any(_are_rows(paragraph.get("qas")) for paragraph in paragraphs):
        return rows
    return [
        {"context": paragraph.get("context")} | {name: asked[name] for name in ("question", "answers") if name in asked}
        for paragraph in paragraphs
        for asked in paragraph.get("qas") or ()
    ]


def _is_row(value: Mapping[str, Any]) -> bool:
    """Return whether an object is one sample, a text or a conversation, rather than the rows of a file."""
    has_text = any(isinstance(value.get(name), str) for name in TEXT_NAMES)
    return has_text or any(are_conversations([entry]) for entry in value.values())


def _only_object(path: Path) -> dict[str, Any] | None:
    """Return the object that a file consists of. The rest of a file with one object a line is not read."""
    with fsspec.open(str(path), "rt", encoding=ENCODING, compression="infer") as file:
        start = file.read(1)
        while start.isspace():
            start = file.read(1)
        if start != "{":  # a list, perhaps of millions of rows in one line
            return None
        first = start + file.readline()
        lines = (line for line in file if line.strip())
        second = next(lines, "")
        if second and _parsed(first) is not None:
            return None
        value = _parsed("".join([first, second, *lines]))
    return value if isinstance(value, dict) else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # the reader of rows says what is wrong
        return None


def _are_rows(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)
