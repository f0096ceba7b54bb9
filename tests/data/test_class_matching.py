"""Labels that are numbers or booleans are names where the model's classes are called so, and ids elsewhere."""

from pathlib import Path

import pandas
import pytest

from transfuse.data.labels.align_classes import align_classes
from transfuse.data.load import load_samples
from transfuse.data.samples import Samples
from transfuse.errors import DataError

UNNAMED = {0: "LABEL_0", 1: "LABEL_1"}


def stored(labels: list[object], suffix: str, folder: Path) -> Samples:
    """Samples with these labels, read from a file of this kind."""
    frame = pandas.DataFrame({"text": [f"text {row}" for row in range(len(labels))], "label": labels})
    path = folder / f"rows.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, sep="," if suffix == "csv" else "\t", index=False)
    return load_samples(path)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("labels", [["True", "False", "True"], ["true", "false", "true"], [True, False, True]])
def test_booleans_are_names_if_classes_are_called_so(labels: list[object], suffix: str, tmp_path: Path) -> None:
    aligned = align_classes(stored(labels, suffix, tmp_path), {0: "True", 1: "False"})
    assert aligned.labels().tolist() == [0, 1, 0]
    assert aligned.take(1, 0).labels().tolist() == [[0, 1, 0][row] for row in aligned.take(1, 0).rows]
    assert align_classes(aligned, {0: "false", 1: "true"}).labels().tolist() == [1, 0, 1]
    assert aligned.notes == ()


@pytest.mark.parametrize("id2label", [{0: "no", 1: "yes"}, UNNAMED, {0: "1", 1: "0"}])
def test_other_booleans_are_ids_with_a_word(id2label: dict[int, str], tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        aligned = align_classes(stored([True, False, True], suffix, tmp_path), id2label)
        assert aligned.labels().tolist() == [1, 0, 1]
        (note,) = aligned.notes
        assert note.endswith(f"so False is class 0 ({id2label[0]}) and True is class 1 ({id2label[1]})")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_numbers_that_are_no_ids_are_names(suffix: str, tmp_path: Path) -> None:
    aligned = align_classes(stored([1, 3, 2], suffix, tmp_path), {0: "1", 1: "2", 2: "3"})
    assert (aligned.labels().tolist(), aligned.notes) == ([0, 2, 1], ())
    years = align_classes(stored([2025, 2024], suffix, tmp_path), {0: "2024", 1: "2025"})
    assert (years.labels().tolist(), years.notes) == ([1, 0], ())


@pytest.mark.parametrize(
    ("labels", "id2label"),
    [([1, 1], {0: "1", 1: "2"}), ([0, 1], {0: "1", 1: "0"}), ([1, 2], {0: "01", 1: "02", 2: "03"})],
)
def test_numbers_that_could_be_both(labels: list[object], id2label: dict[int, str], tmp_path: Path) -> None:
    """In a table of text, they are names; where they are stored as numbers, ids. A line says so."""
    words = [f"{label:02}" if "01" in id2label.values() else str(label) for label in labels]
    names = align_classes(stored(words, "parquet", tmp_path), id2label)
    for suffix in ("csv", "tsv"):
        written = stored(words, suffix, tmp_path)
        aligned = align_classes(written, id2label)
        assert aligned.labels().tolist() == names.labels().tolist() != labels
        (note,) = aligned.notes
        assert note.startswith(f"{written.name}: label {labels[0]} is the number of class ")
        assert note.endswith("labels in a table of text are read as names")
        assert align_classes(written.take(1, 0), id2label).notes == (note,)  # of all rows
    for suffix in ("parquet", "jsonl"):
        aligned = align_classes(stored(labels, suffix, tmp_path), id2label)
        assert aligned.labels().tolist() == labels
        (note,) = aligned.notes
        assert note.endswith("labels that are stored as numbers are read as numbers, so store names as text")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_numbers_are_ids_if_one_is_no_name(suffix: str, tmp_path: Path) -> None:
    for id2label in ({0: "1", 1: "2", 2: "3"}, {0: "0", 1: "1", 2: "2"}, {0: "a", 1: "b", 2: "c"}):
        aligned = align_classes(stored([0, 2, 1], suffix, tmp_path), id2label)
        assert (aligned.labels().tolist(), aligned.notes) == ([0, 2, 1], ())
    assert align_classes(stored([0, 1], suffix, tmp_path), UNNAMED).notes == ()
    with pytest.raises(DataError, match="label 2 in row 1"):
        align_classes(stored([0, 2], suffix, tmp_path), {0: "1", 1: "2"})
