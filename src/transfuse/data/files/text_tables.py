"""Tables in files of text: .csv files, and .tsv files with or without quoting."""

import csv
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import fsspec
import pandas  # type: ignore[import-untyped]
from datasets import Dataset, concatenate_datasets
from datasets.exceptions import DatasetGenerationError

from transfuse.data.files.list_cells import with_lists
from transfuse.data.files.table_layout import QUOTED, Layout, layout_of, named_separator, separator_of
from transfuse.data.files.text_files import escaped

TEXT_TABLES = (".csv", ".tsv")
ROWS_AT_ONCE = 10_000  # of which `datasets` decides the types each time
FIELD = rf'(?:{QUOTED}|[^"\t]*)'
ROW = re.compile(rf"{FIELD}(?:\t{FIELD})*")


def read_csv(files: list[Path]) -> Dataset:
    """Read .csv files; a class or a text may be called "None".

    Raises:
        DataError: a row has more fields than the header.
    """
    return _read(files, ",")


def read_tsv(files: list[Path]) -> Dataset:
    """Read .tsv files, each with quoting only if its fields are quoted.

    Raises:
        DataError: a row has more fields than the header.
    """
    return _read(files, "\t")


def _read(files: list[Path], separator: str) -> Dataset:
    parts = []
    for layout, group in groupby(files, lambda path: _layout(path, separator)):
        options = _options(layout) | {"keep_default_na": False, "na_values": [""]}
        paths = list(group)
        options |= _converters(paths[0], options)
        try:
            parts.append(Dataset.from_csv(escaped(paths), **options))
        except DatasetGenerationError:  # later rows may not be of the types of the first ones, which decide them
            frames = (pandas.read_csv(path, low_memory=False, **options) for path in paths)
            tables = [Dataset.from_pandas(frame, preserve_index=False) for frame in frames]
            if any(table.column_names != tables[0].column_names for table in tables):
                raise
            parts.extend(tables)
    return with_lists(_with_stripped_names(parts[0] if len(parts) == 1 else concatenate_datasets(parts)))


def _converters(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Return the option of pandas that reads the columns of texts in the first rows as texts in all further ones."""
    first = pandas.read_csv(path, nrows=ROWS_AT_ONCE, **options)
    texts = [name for name in first if pandas.api.types.infer_dtype(first[name], skipna=True) == "string"]
    return {"converters": dict.fromkeys(texts, _text)} if texts else {}


def _text(value: str) -> str | None:
    return value or None


def _layout(path: Path, usual: str) -> Layout:
    if named := named_separator(path):
        return layout_of(path, named, is_quoted=True, skipped=1)
    separator = separator_of(path, usual)
    return layout_of(path, separator, separator != "\t" or is_quoted(path))


def _options(layout: Layout) -> dict[str, Any]:
    """Return the options of pandas for a layout."""
    quoting = csv.QUOTE_MINIMAL if layout.is_quoted else csv.QUOTE_NONE
    options: dict[str, Any] = {"sep": layout.separator, "quoting": quoting, "skiprows": layout.skipped}
    if layout.columns is not None:
        options |= {"index_col": False, "usecols": list(range(layout.columns))}
    if layout.after_row_names:
        names = ["", *layout.after_row_names]
        options |= {"header": 0, "names": names, "usecols": list(range(1, len(names)))}
    return options


def _with_stripped_names(dataset: Dataset) -> Dataset:
    """Return a table whose columns have no blanks around their names, unless two would have the same name."""
    names = [name.strip() for name in dataset.column_names]
    if len(set(names)) < len(names):
        return dataset
    return dataset.rename_columns(dict(zip(dataset.column_names, names, strict=True)))


def is_quoted(path: Path) -> bool:
    """Return whether every field of a .tsv file that has quotation marks is quoted as a whole, as pandas writes it.

    A quoted field may go on in the next line. That is not believed of a file whose lines all have the same number of
    fields, if they have several: each line is then a row, and the quotation marks of different rows do not belong
    together.
    """
    row: list[str] = []
    marks = 0
    header: int | None = None  # tabs between the names of the columns
    tabs_in_lines: set[int] = set()
    tabs_in_rows: set[int] = set()
    goes_on = False
    with fsspec.open(str(path), "rt", encoding="utf-8-sig", compression="infer") as file:
        for line in file:
            if not row and line == "\n":
                continue
            row.append(line)
            marks += line.count('"')
            if header is not None:
                tabs_in_lines.add(line.count("\t"))
            if marks % 2:
                goes_on = True
                continue
            text = "".join(row).removesuffix("\n")
            if marks and not ROW.fullmatch(text):
                return False
            tabs = re.sub(QUOTED, "", text).count("\t")
            if header is None:
                header = tabs
            else:
                tabs_in_rows.add(tabs)
            row, marks = [], 0
    if row:  # a quotation mark is not closed
        return False
    lines_are_rows = len(tabs_in_lines) == 1 and tabs_in_lines != {0}
    return not goes_on or (tabs_in_rows in ({header}, {(header or 0) + 1}) and not lines_are_rows)  # 1: names of rows
