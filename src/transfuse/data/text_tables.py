"""Tables in files of text: .csv files, and .tsv files with or without quoting."""

import csv
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import fsspec
from datasets import Dataset, concatenate_datasets

from transfuse.data.text_files import escaped

TEXT_TABLES = (".csv", ".tsv")
QUOTED = r'"[^"]*(?:""[^"]*)*"'  # a field that is quoted as a whole, with doubled quotes in it
FIELD = rf'(?:{QUOTED}|[^"\t]*)'
ROW = re.compile(rf"{FIELD}(?:\t{FIELD})*")


def read_csv(files: list[Path], **options: Any) -> Dataset:
    """Read .csv files; a class or a text may be called "None"."""
    return Dataset.from_csv(escaped(files), keep_default_na=False, na_values=[""], **options)


def read_tsv(files: list[Path]) -> Dataset:
    """Read .tsv files, each with quoting only if its fields are quoted."""
    parts = []
    for quoted, group in groupby(files, is_quoted):
        parts.append(read_csv(list(group), sep="\t", quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE))
    return parts[0] if len(parts) == 1 else concatenate_datasets(parts)


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
