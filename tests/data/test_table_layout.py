"""Tables of text whose rows do not fit their header, or whose fields are separated otherwise than usual."""

import gzip
from pathlib import Path

import pytest

from transfuse.data.load import load_samples
from transfuse.errors import DataError


def check(path: Path, content: str) -> None:
    """Check that a table holds two texts with labels."""
    path.write_text(content)
    samples = load_samples(path)
    assert (samples.text, samples.label) == ("text", "label")
    assert samples.inputs(range(2)) == ["a", "b"]
    assert samples.labels().tolist() == [1, 0]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    "content",
    [
        "text,label\na,1,\nb,0,\n",
        "text,label\na,1\nb,0,\n",
        "text,label\na,1\nb,0,,\n",
        "text,label,\na,1,\nb,0, \n",
    ],
)
def test_empty_columns_at_the_end_are_dropped(content: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"
    check(path, content if suffix == "csv" else content.replace(",", "\t"))
    assert load_samples(path).dataset.column_names == ["text", "label"]


@pytest.mark.parametrize(("suffix", "kind"), [("csv", "comma"), ("tsv", "tab")])
def test_a_row_with_too_many_fields_is_refused(suffix: str, kind: str, tmp_path: Path) -> None:
    content = 'text,label\n\n"a\n""b""",1\nhello, world,1\n'
    if suffix == "tsv":
        content = content.replace(",", "\t")
    path = tmp_path / f"rows.{suffix}"
    path.write_text(content)
    with pytest.raises(
        DataError, match=rf"rows.{suffix}: line 5 has 3 fields, but the header has 2; put texts that contain a {kind} "
    ):
        load_samples(path)
    path.write_text("\n".join(line for line in content.split("\n") if "hello" in line or "text" in line))
    with pytest.raises(DataError, match="line 2 has 3 fields"):
        load_samples(path)


def test_a_column_of_row_numbers_needs_no_name_where_it_cannot_be_text(tmp_path: Path) -> None:
    check(tmp_path / "by_pandas.csv", ",text,label\n0,a,1\n1,b,0\n")
    for first in (0, 1):
        check(tmp_path / "by_r.tsv", f"text\tlabel\n{first}\ta\t1\n{first + 1}\tb\t0\n")
        assert load_samples(tmp_path / "by_r.tsv").dataset.column_names == ["text", "label"]
    (tmp_path / "commas.csv").write_text("id,text\n1,one, two\n2,three, four\n")
    with pytest.raises(DataError, match="line 2 has 3 fields"):
        load_samples(tmp_path / "commas.csv")


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_semicolons_and_tabs_are_recognized_in_the_header(name: str, tmp_path: Path) -> None:
    check(tmp_path / name, "text;label\na;1\nb;0\n")
    check(tmp_path / name, "text\tlabel\na\t1\nb\t0\n")
    check(tmp_path / name, "text,label\na,1\nb,0\n")
    (tmp_path / name).write_text('"text;label"\n"a;b"\n')
    assert load_samples(tmp_path / name).dataset.column_names == ["text;label"]
    (tmp_path / name).write_text("text;label\n1,2;1\n")
    assert load_samples(tmp_path / name, label="label").dataset[0] == {"text": "1,2", "label": 1}


def test_a_header_with_two_unusual_separators_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text;more\tlabel\na;b\t1\n")
    with pytest.raises(DataError, match="its header has a semicolon and a tab, but no comma; separate all columns by"):
        load_samples(tmp_path / "rows.csv")


def test_files_of_one_folder_differ_in_their_layout(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n")
    (tmp_path / "b.csv").write_text("text;label\nb;0\n")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"text,label\nc,0,\n"))
    assert load_samples(tmp_path).inputs(range(3)) == ["a", "b", "c"]


def test_blanks_around_names_of_columns_do_not_count(tmp_path: Path) -> None:
    check(tmp_path / "rows.csv", "text, label \na,1\nb,0\n")
    check(tmp_path / "rows.tsv", " text\t label\na\t1\nb\t0\n")
    (tmp_path / "twice.csv").write_text("text,text ,label\na,b,1\n")
    assert load_samples(tmp_path / "twice.csv").inputs([0]) == ["a"]


def test_a_field_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"text,label\n{'x' * 200_000},1\n")
    assert len(load_samples(tmp_path / "rows.csv").inputs([0])[0]) == 200_000


def test_a_name_of_two_columns_is_refused(tmp_path: Path) -> None:
    for name, separator in (("rows.csv", ","), ("rows.tsv", "\t")):
        rows = [["text", "label", "label", "", ""], ["a", "1", "0", "", ""]]
        (tmp_path / name).write_text("\n".join(map(separator.join, rows)))
        with pytest.raises(DataError, match=rf"{name}: 2 columns are called 'label'; rename or remove"):
            load_samples(tmp_path / name)


@pytest.mark.parametrize("first", ["sep=;", "\ufeffSEP=;", '"sep=;"'])
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_first_line_may_name_the_separator(first: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{suffix}"
    path.write_text(f'{first}\ntext;label\n"a, b; c";1\nd, e\tf;0\n', encoding="utf-8")
    samples = load_samples(path)
    assert samples.dataset.column_names == ["text", "label"]
    assert samples.inputs([0, 1]) == ["a, b; c", "d, e\tf"]
    path.write_text("sep=,\ntext,label\na,1\nb,c,0\n")
    with pytest.raises(DataError, match="line 4 has 3 fields"):
        load_samples(path)


def test_lock_files_of_excel_are_no_data(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{split},1\n")
        (tmp_path / f"~${split}.csv").write_bytes(b"\x05me \xff")
    (tmp_path / "~$book.csv").write_bytes(b"\x05me \xff")
    assert load_samples(tmp_path, "train").inputs([0]) == ["train"]


def test_a_table_without_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("0.5,a text,0.5\n0.25,another,1\n")
    with pytest.raises(DataError, match=r"rows\.csv: 2 columns are called '0\.5'; if the first line is no header"):
        load_samples(tmp_path / "rows.csv")
