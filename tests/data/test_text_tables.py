"""Tables of text: quotation marks in .tsv files are parts of texts, unless whole fields are quoted."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest

from transfuse.data.files.text_tables import is_quoted
from transfuse.data.load import load_samples


@pytest.mark.parametrize(
    "texts",
    [
        ['"one begins', "plain", 'another ends"', "last"],
        ['he said "no"', '"no" he said', "12\" and 5'"],
        ['"never closed', "plain"],
        ['"a" and "b"', "plain"],
        ['""', 'a ""quoted"" word', "plain"],
        ["plain", "also plain"],
    ],
)
def test_quotation_marks_belong_to_the_texts(texts: list[str], tmp_path: Path) -> None:
    rows = [f"{text}\t{row % 2}" for row, text in enumerate(texts)]
    (tmp_path / "rows.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    samples = load_samples(tmp_path / "rows.tsv")
    assert samples.inputs(range(len(samples))) == texts
    assert samples.labels().tolist() == [row % 2 for row in range(len(texts))]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize(
    "texts",
    [
        ['"one begins', "plain", 'another ends"'],
        ['he said "no"', "plain"],
        ["two\nlines", "plain", "three\n\nlines"],
        ["with\ttabs", 'and "marks"\n\tin all'],
    ],
)
@pytest.mark.parametrize("columns", [["text"], ["text", "label"], ["label", "text"]])
def test_tables_that_pandas_writes(texts: list[str], quoting: int, columns: list[str], tmp_path: Path) -> None:
    frame = pandas.DataFrame({"text": texts, "label": [row % 2 for row in range(len(texts))]})[columns]
    frame.to_csv(tmp_path / "rows.tsv", sep="\t", index=False, quoting=quoting)
    samples = load_samples(tmp_path / "rows.tsv")
    assert samples.inputs(range(len(samples))) == texts


def test_files_of_one_folder_are_quoted_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tlabel\n"a\t0\nb"\t1\n')
    (tmp_path / "b.tsv").write_text('text\tlabel\n"say ""c"""\t0\n')
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress(b'text\tlabel\n"d\t0\n'))
    samples = load_samples(tmp_path)
    assert samples.inputs(range(4)) == ['"a', 'b"', 'say "c"', '"d']


def test_blank_lines_and_rows_of_other_widths(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n\n"a\t0\n\nb"\t1\n\n"c\t1\n')  # a mark that is not closed
    assert not is_quoted(path)
    path.write_text('\ufeff"text"\t"label"\n"a\nb"\t0\n')
    assert is_quoted(path)
    path.write_text('text\tother\tlabel\n"a\tb\t0\nc\td"\t1\ne\tf\n')  # as rows, of three, two and one more field
    assert not is_quoted(path)


@pytest.mark.parametrize(("first", "last"), [("7", "A7"), ("", "checked"), ("7", "7.5")])
def test_values_may_be_of_another_type_after_many_rows(first: str, last: str, tmp_path: Path) -> None:
    rows = [f"{last if row > 11_000 else first},text {row},{row % 2}" for row in range(12_000)]
    (tmp_path / "rows.csv").write_text("\n".join(["note,text,label", *rows]) + "\n")
    samples = load_samples(tmp_path / "rows.csv")
    assert (len(samples), samples.inputs([11_999])) == (12_000, ["text 11999"])
    assert str(samples.dataset[11_999]["note"]) == last
    assert samples.dataset[0]["note"] in (first or None, float(first or "nan"))


def test_columns_separated_by_vertical_bars(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text|label\na, b|1\nc|0\n")
    samples = load_samples(tmp_path / "rows.csv")
    assert (samples.inputs([0, 1]), samples.labels().tolist()) == (["a, b", "c"], [1, 0])


def test_texts_stay_texts_after_many_rows(tmp_path: Path) -> None:
    rows = [f"{'001' if row > 9_999 else 'a'},{row}" for row in range(12_000)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,number", *rows, ",7"]) + "\n")
    dataset = load_samples(tmp_path / "rows.csv").dataset
    assert (dataset[0]["text"], dataset[11_999]["text"], dataset[12_000]["text"]) == ("a", "001", None)


@pytest.mark.parametrize("written", [str, json.dumps, lambda values: str(np.array(values, dtype=object))])
def test_lists_in_cells(written: Callable[[list[str] | list[int]], str], tmp_path: Path) -> None:
    """As pandas writes them, and `datasets`, whose lists are arrays of numpy."""
    words = [["Anna's", '"big"', "a b", "\\"], ["Rome", "[x]", "é"] * 30]
    ids = [[0, -1, 2, 10], [3, 4, 5] * 30]
    rows = {
        "tokens": [*map(written, words), ""],
        "ner_tags": [*map(written, ids), "[]"],
        "text": ["['a']", "['b' 1]", "c"],
    }
    pandas.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    dataset = load_samples(tmp_path / "rows.csv").dataset
    assert (dataset["tokens"][:], dataset["ner_tags"][:]) == ([*words, None], [*ids, []])
    assert dataset["text"][:] == rows["text"]


@pytest.mark.parametrize(
    "cells", [["['a']", "[1]"], ["['a''b']", "['c']"], ["['\\x']", "['c']"], ["[]", "[]"], ["[a]", "[b]"]]
)
def test_cells_that_only_look_like_lists_are_texts(cells: list[str], tmp_path: Path) -> None:
    pandas.DataFrame({"text": cells}).to_csv(tmp_path / "rows.csv", index=False)
    assert load_samples(tmp_path / "rows.csv").inputs([0, 1]) == cells
