"""Columns that a Python program holds, as one `Dataset`."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from io import IOBase
from typing import Any

import pandas  # type: ignore[import-untyped]
import PIL.Image
from datasets import Dataset, IterableDataset

from transfuse.data.image.pixels import image_advice, storable
from transfuse.data.text.messages import are_conversations, stored_conversation
from transfuse.errors import DataError, first_line

TABLES = (Dataset, IterableDataset, pandas.DataFrame)


def from_columns(columns: Mapping[Any, Any], where: str) -> Dataset:
    """Read columns by name, and name the row whose value is not of the kind of the others."""
    for name in columns:
        if not isinstance(name, str):
            raise DataError(f"{where}: column {name!r} has no text as its name; name the columns 'text', 'label', ...")
        if isinstance(columns[name], (str, bytes, Mapping, *TABLES)) or not isinstance(columns[name], Iterable):
            raise DataError(f"{where}: column {name!r} is {type_of(columns[name])}; give a list with one value per row")
    values = {name: list(map(storable, column)) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{where}: the columns have {lengths} rows; give lists of the same length")
    try:
        return Dataset.from_dict(values)
    except Exception:  # pyarrow raises many kinds of errors, also for messages whose keys or contents differ in kind
        talks = {name: column for name, column in values.items() if are_conversations(column)}
        values |= {name: [stored_conversation(value) for value in column] for name, column in talks.items()}
    try:
        return Dataset.from_dict(values)
    except Exception as error:
        raise DataError(f"{where}: {_difference(values) or first_line(error)}") from error


def from_rows(rows: Sequence[Mapping[Any, Any]], where: str) -> Dataset:
    """Read rows, in which some columns may be missing."""
    names = dict.fromkeys(name for row in rows for name in row)
    return from_columns({name: [row.get(name) for row in rows] for name in names}, where)


def _difference(columns: Mapping[str, Sequence[Any]]) -> str | None:
    """Return which value cannot be written, or is of another type than those before it, if there is one."""
    for name, column in columns.items():
        for row, value in enumerate(column):
            if isinstance(value, IOBase):
                return f"row {row} (from 0) of column {name!r} holds {type_of(value)}; {image_advice(value)}"
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            if broken := re.search("[\ud800-\udfff]", text):
                return f"row {row} (from 0) of column {name!r} has {broken[0]!r}, which is not a character; remove it"
        present = [(row, value) for row, value in enumerate(column) if value is not None]
        for row, value in present:
            if type(value) is not type(present[0][1]):
                first = present[0]
                return (
                    f"column {name!r} holds {type_of(value)} in row {row} and {type_of(first[1])} in row {first[0]}"
                    " (from 0); give values of one kind, and None for those that are missing"
                )
    return None


def is_missing(value: Any) -> bool:
    """Return whether a value is None or NaN."""
    return bool(pandas.api.types.is_scalar(value) and pandas.isna(value))


def type_of(value: Any) -> str:
    """Name the type of a value with its article."""
    name = "PIL image" if isinstance(value, PIL.Image.Image) else type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
