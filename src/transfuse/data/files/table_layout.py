"""The layout of a table in a file of text: what separates its fields, and whether all rows fit its header."""

import csv
import re
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec

from transfuse.errors import DataError

QUOTED = r'"[^"]*(?:""[^"]*)*"'  # a field that is quoted as a whole, with doubled quotes in it
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
LONGEST_FIELD = 2**31 - 1  # in characters; the module csv takes 128 KiB unless it is told otherwise


@dataclass(frozen=True)
class Layout:
    """Say how the rows of a table are read.

    Attributes:
        separator: what stands between two fields.
        is_quoted: whether fields may be quoted; otherwise quotation marks belong to the texts.
        columns: how many of the first columns are read, because all further ones are empty; None: all.
        after_row_names: names of the columns after one of row numbers, which has no name; empty if there is none.
        skipped: how many of the first lines are not read; 1 if it names the separator, as Excel writes it.
    """

    separator: str
    is_quoted: bool
    columns: int | None = None
    after_row_names: tuple[str, ...] = ()
    skipped: int = 0


def named_separator(path: Path) -> str | None:
    """Return the separator that the first line of a table names, such as `sep=;`; None if it is a header."""
    with fsspec.open(str(path), "rt", encoding="utf-8-sig", compression="infer") as file:
        named = re.fullmatch(r'"?sep=([,;\t|])"?', file.readline().strip("\n"), re.IGNORECASE)
    return named[1] if named else None


def separator_of(path: Path, usual: str) -> str:
    """Return what separates the names in the header of a table: `usual`, or the only other separator that is in it.

    Raises:
        DataError: several others are in it.
    """
    with fsspec.open(str(path), "rt", encoding="utf-8-sig", compression="infer") as file:
        header = re.sub(QUOTED, "", next((line for line in file if line.strip()), "").strip("\n"))
    others = [separator for separator in SEPARATORS if separator in header]
    if usual in others or not others:
        return usual
    if len(others) > 1:
        kinds = " and ".join(f"a {SEPARATORS[other]}" for other in others)
        raise DataError(
            f"{path}: its header has {kinds}, but no {SEPARATORS[usual]}; separate all columns by a {SEPARATORS[usual]}"
        )
    return others[0]


def layout_of(path: Path, separator: str, is_quoted: bool, skipped: int = 0) -> Layout:
    """Return how a table is read whose rows may end in separators, or begin with row numbers if tabs separate fields.

    Raises:
        DataError: a row has more fields than the header, or two columns have the same name.
    """
    layout = Layout(separator, is_quoted, skipped=skipped)
    with closing(_rows(path, layout)) as rows:
        _, header = next(rows, (0, []))
        _check_names(path, header)
        shape = _RowShape(header, separator == "\t")
        for line, row in rows:
            shape.add(line, row)
            if shape.too_long and not shape.has_row_numbers:
                line, fields = shape.too_long
                raise DataError(
                    f"{path}: line {line} has {fields} fields, but the header has {len(header)}; put texts"
                    f" that contain a {SEPARATORS[separator]} in quotation marks, and name every column"
                )
    if shape.too_long:
        return replace(layout, after_row_names=tuple(header))
    return replace(layout, columns=shape.columns)


def _check_names(path: Path, header: Sequence[str]) -> None:
    """Raise `DataError` if two columns have the same name."""
    counts = Counter(name for name in header if name.strip())
    for name, count in counts.items():
        if count > 1:
            advice = "rename or remove all but one"
            if _is_number(name):
                advice = "if the first line is no header, add a line with names of columns before it"
            raise DataError(f"{path}: {count} columns are called {name!r}; {advice}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _RowShape:
    """How the rows of a table compare with its header.

    Attributes:
        has_row_numbers: whether every row so far begins with its number, from 0 or 1, which the header does not name.
        too_long: the line and the number of fields of the first row with texts beyond the header; None: there is none.
    """

    def __init__(self, header: Sequence[str], may_have_row_numbers: bool) -> None:
        self.has_row_numbers = may_have_row_numbers
        self.too_long: tuple[int, int] | None = None
        self._width = len(header)
        self._named = max((index + 1 for index, name in enumerate(header) if name.strip()), default=len(header))
        self._is_wide = False  # whether a row has more fields than the header
        self._rest_is_empty = True  # whether all fields after the last named one are
        self._next_number: int | None = None

    @property
    def columns(self) -> int | None:
        """How many of the first columns are read, because all further ones are empty; None: all."""
        if self._rest_is_empty and (self._is_wide or self._named < self._width):
            return self._named
        return self._width if self._is_wide else None

    def add(self, line: int, row: Sequence[str]) -> None:
        """Compare one more row, which begins in a line of the file."""
        if self._next_number is None:
            self._next_number = int(row[0] == "1")
        self.has_row_numbers &= len(row) == self._width + 1 and row[0] == str(self._next_number)
        self._next_number += 1
        if len(row) <= self._named:
            return
        self._is_wide |= len(row) > self._width
        self._rest_is_empty = self._rest_is_empty and not any(field.strip() for field in row[self._named :])
        if self.too_long is None and any(field.strip() for field in row[self._width :]):
            self.too_long = line, len(row)


def _rows(path: Path, layout: Layout) -> Generator[tuple[int, list[str]], None, None]:
    """Yield the rows of a table that are not blank, each with the number of its first line, from 1."""
    limit = csv.field_size_limit(LONGEST_FIELD)
    line = 1
    try:
        with fsspec.open(str(path), "rt", encoding="utf-8-sig", compression="infer", newline="") as file:
            quoting: dict[str, Any] = {} if layout.is_quoted else {"quoting": csv.QUOTE_NONE}
            reader = csv.reader(file, delimiter=layout.separator, **quoting)
            for row in islice(reader, layout.skipped, None):
                if row and (len(row) > 1 or row[0].strip()):
                    yield line, row
                line = reader.line_num + 1
    finally:
        csv.field_size_limit(limit)
