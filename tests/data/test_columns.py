"""Which column holds the images, the texts or the labels, and whose classes the labels are."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, concatenate_datasets
from pictures import NAMES, encoded, one_line, picture, pictures, values, write_image

from transfuse.base.batch import IGNORED_LABEL
from transfuse.data.image.image_texts import with_pairs
from transfuse.data.labels.align_classes import align_classes
from transfuse.data.load import load_samples
from transfuse.data.text.questions import with_answers
from transfuse.data.text.tagged_words import with_tags
from transfuse.errors import DataError, NoLabelsError


@pytest.mark.parametrize("kind", ["binary", "struct", "path"])
def test_image_columns_that_are_not_image_features(tmp_path: Path, kind: str) -> None:
    write_image(tmp_path / "pics" / "a.png", 30)
    cell: Any = {"binary": encoded(30), "struct": {"bytes": encoded(30), "path": None}, "path": "pics/a.png"}[kind]
    Dataset.from_dict({"x": [cell, cell], "fine_label": [4, 2], "other": ["m", "n"]}).to_parquet(tmp_path / "d.parquet")
    samples = load_samples(tmp_path / "d.parquet")
    assert (samples.image, samples.label, samples.names) == ("x", "fine_label", None)
    assert values(samples) == [30, 30]
    assert samples.labels().tolist() == [4, 2]


def test_an_image_feature_is_preferred_to_bytes_and_bytes_to_names(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 1)
    rows = {"name": [str(tmp_path / "a.png")], "bytes": [encoded(2)], "picture": [picture(3)]}
    data = Dataset.from_dict(rows)
    assert values(load_samples(data)) == [3]
    assert values(load_samples(data.remove_columns("picture"))) == [2]
    assert values(load_samples(data.select_columns("name"))) == [1]
    with pytest.raises(DataError, match="'bytes', 'more' could each be the image"):
        load_samples(data.remove_columns("picture").add_column("more", [b"x"])).require_images()


def test_two_image_columns_are_ambiguous() -> None:
    data = pictures(2).add_column("mask", [encoded(0)] * 2).cast_column("mask", Image())
    with pytest.raises(DataError) as caught:
        load_samples(data).require_images()
    assert "'image', 'mask'" in one_line(caught)
    assert "choose one with image_column" in one_line(caught)
    chosen = load_samples(data, image="mask")
    assert (chosen.image, values(chosen)) == ("mask", [0, 0])


def test_texts_beside_images_that_cannot_be_found_are_read(tmp_path: Path) -> None:
    (tmp_path / "memes.jsonl").write_text('{"img": "img/0.png", "label": 1, "text": "hello"}\n')
    encoded_twice = Dataset.from_dict({"text": ["hello"], "label": [1], "a": [b"1"], "b": [b"2"]})
    pictured_twice = Dataset.from_dict({"text": ["hello"], "label": [1], "a": [picture(1)], "b": [picture(2)]})
    reasons = {"0.png, which is not there": tmp_path / "memes.jsonl"}
    reasons |= {"'a', 'b' could each be the image": encoded_twice, "choose one with image_column": pictured_twice}
    for reason, data in reasons.items():
        samples = load_samples(data)
        assert samples.require_texts().inputs([0]) == samples.inputs([0]) == ["hello"]
        assert samples.labels().tolist() == [1]
        with pytest.raises(DataError, match=reason):
            samples.require_images()
        with pytest.raises(DataError, match=reason):
            replace(samples, text=None).inputs([0])
    (tmp_path / "names.csv").write_text("file_name,label\nmissing.png,1\n")
    with pytest.raises(DataError, match="no text column"):
        load_samples(tmp_path / "names.csv").require_texts()


def test_an_image_column_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "front").write_bytes(encoded(1))  # a name without a suffix
    write_image(tmp_path / "back.png", 2)
    rows = {"front": [str(tmp_path / "front")], "back": [str(tmp_path / "back.png")], "n": [1]}
    data = Dataset.from_dict(rows)
    assert values(load_samples(data)) == [2]
    assert values(load_samples(data, image="front")) == [1]
    with pytest.raises(DataError, match=r"no column 'side' \(image_column\); it has 'front', 'back', 'n'"):
        load_samples(data, image="side")
    with pytest.raises(
        DataError, match=r"'n' \(image_column\) holds numbers, not images; these hold images: 'front', 'b"
    ):
        load_samples(data, image="n")


def test_label_column_is_found_by_name_then_type() -> None:
    classes = Features({"coarse_label": ClassLabel(names=NAMES), "fine_label": ClassLabel(names=NAMES)})
    rows: dict[str, list[int]] = {"coarse_label": [0], "fine_label": [1]}
    assert load_samples(Dataset.from_dict(rows, features=classes)).label == "fine_label"
    assert load_samples(Dataset.from_dict(rows, features=classes).remove_columns("fine_label")).label == "coarse_label"
    assert load_samples(Dataset.from_dict({"n": [1], "is_label": [True]})).labels().tolist() == [1]
    assert load_samples(Dataset.from_dict({"n": [1], "label": [0.5]})).label is None
    assert load_samples(Dataset.from_dict({"a_label": [1], "b_label": [0]})).label is None


def test_missing_labels_are_ignored_by_the_loss_and_refused_on_request() -> None:
    samples = load_samples(Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, None, -1]}))
    assert samples.labels().tolist() == [1, IGNORED_LABEL, IGNORED_LABEL]
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORED_LABEL
    with pytest.raises(DataError, match="2 of 3 samples have no label, the first in row 1"):
        samples.require_labels()


def test_alignment_by_name_ignores_case_and_order() -> None:
    samples = load_samples(pictures(4))
    aligned = align_classes(samples, {0: "Owl", 1: "ant", 2: "CAT", 3: "dog"})
    assert aligned.labels().tolist() == [2, 3, 0, 2]
    assert aligned.take(2, 0).labels().tolist() == [[2, 3, 0, 2][row] for row in aligned.take(2, 0).rows]
    assert align_classes(aligned, {0: "cat", 1: "dog", 2: "owl"}).labels().tolist() == [0, 1, 2, 0]


def test_alignment_of_strings() -> None:
    samples = load_samples(Dataset.from_dict({"text": list("abc"), "label": ["owl", "cat", "owl"]}))
    assert align_classes(samples, {0: "dog", 1: "owl", 2: "cat"}).labels().tolist() == [1, 2, 1]
    assert align_classes(samples, {0: "LABEL_0", 1: "LABEL_1"}).labels().tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="which is which"):
        align_classes(samples, {index: f"LABEL_{index}" for index in range(3)})


def test_a_note_says_which_ids_names_without_ids_get(tmp_path: Path) -> None:
    unnamed = {0: "LABEL_0", 1: "LABEL_1"}
    strings = load_samples(Dataset.from_dict({"text": list("abc"), "label": ["owl", "cat", "owl"]}))
    for name in ("cat", "owl"):
        write_image(tmp_path / name / "x.png", 0)
    for samples in (strings, load_samples(tmp_path)):
        assert samples.notes == ()
        (note,) = align_classes(align_classes(samples, unnamed), unnamed).notes
        assert note.startswith(samples.name)
        assert note.endswith("in alphabetical order, from 'cat' as 0 to 'owl' as 1")
        assert align_classes(samples, {0: "owl", 1: "cat"}).notes == ()
    with pytest.raises(DataError, match="2 class names, and 3 classes without names"):
        align_classes(load_samples(tmp_path), {**unnamed, 2: "LABEL_2"})
    with pytest.raises(DataError, match="3 classes, from 'a' to 'c', but the model has 2 classes"):
        align_classes(load_samples({"text": list("abc"), "label": list("abc")}), unnamed)
    assert align_classes(load_samples(pictures(4)), {**unnamed, 2: "LABEL_2"}).notes == ()  # the data have ids


def test_alignment_names_what_does_not_match() -> None:
    with pytest.raises(DataError) as caught:
        align_classes(load_samples(pictures()), {0: "cat", 1: "wolf", 2: "owl"})
    assert "'dog' cannot be matched" in one_line(caught)
    assert "'wolf'" in one_line(caught)
    with pytest.raises(DataError, match="'cat' cannot be matched"):  # the model has two
        align_classes(load_samples(pictures()), {0: "cat", 1: "cat", 2: "owl", 3: "dog"})


def test_alignment_keeps_ids_in_range_where_a_side_has_no_names() -> None:
    unnamed = {index: f"LABEL_{index}" for index in range(3)}
    assert align_classes(load_samples(pictures(4)), unnamed).labels().tolist() == [0, 1, 2, 0]
    numbers = load_samples(Dataset.from_dict({"text": ["a", "b"], "label": [0, 2]}))
    assert align_classes(numbers, {0: "x", 1: "y", 2: "z"}).labels().tolist() == [0, 2]
    with pytest.raises(DataError, match=r"label 2 in row 1 \(from 0\), but the model has 2 classes"):
        align_classes(numbers, {0: "x", 1: "y"})
    with pytest.raises(DataError, match="label 2 in row 2"):
        align_classes(load_samples(pictures(4)), {0: "LABEL_0", 1: "LABEL_1"})


def test_classes_that_are_numbers_are_ids(tmp_path: Path) -> None:
    for index in range(11):
        write_image(tmp_path / str(index) / "x.png", index)
    samples = load_samples(tmp_path)
    assert samples.names is not None
    assert samples.names[2] == "10"
    aligned = align_classes(samples, {index: f"LABEL_{index}" for index in range(11)})
    assert aligned.labels().tolist() == values(aligned)


def test_no_image_text_or_label() -> None:
    numbers = load_samples(Dataset.from_dict({"n": [1, 2]}))
    with pytest.raises(DataError, match="no image column among 'n'"):
        numbers.require_images()
    with pytest.raises(DataError, match=r"no text column among 'n'; .* with text_column"):
        numbers.require_texts()
    with pytest.raises(DataError, match="no class label among 'n'"):
        numbers.require_labels()
    with pytest.raises(DataError, match="no class label among 'n'"):
        align_classes(numbers, {0: "a"})
    with pytest.raises(DataError, match="no image and no text"):
        next(numbers.batches(lambda inputs: {}, 1))


def test_a_message_lists_the_first_columns_of_a_wide_table() -> None:
    numbers = Dataset.from_dict({f"x{number}": [0.5, 1.5] for number in range(30)})
    wide = load_samples(numbers)
    images = load_samples(concatenate_datasets([pictures(2), numbers], axis=1))
    refused: list[Callable[[], object]] = [wide.require_texts, wide.require_images, wide.require_labels]
    refused += [partial(with_answers, wide), partial(with_tags, wide), partial(with_pairs, images)]
    for refuse in refused:
        with pytest.raises(DataError, match=r"'x5'.* and 2\d more"):
            refuse()


def test_labels_with_an_empty_or_a_fractional_cell(tmp_path: Path) -> None:
    empty = r"1 of 3 samples has no label, the first in row 1 \(from 0\); .* remove them"
    fractional = r"column 'label' holds 0.5 in row 1 \(from 0\), so .*; correct"
    for number, (rows, message) in enumerate([("a,1\nb,\nc,0\n", empty), ("a,1\nb,0.5\n", fractional)]):
        path = tmp_path / f"{number}.csv"
        path.write_text(f"text,label\n{rows}")
        for label in (None, "label"):
            with pytest.raises(DataError, match=message) as caught:
                load_samples(path, label=label).require_labels()
            assert not isinstance(caught.value, NoLabelsError)
        samples = load_samples(path)
        with pytest.raises(DataError, match=r"in row 1 \(from 0\)"):
            samples.shuffled(0).require_labels()
    (tmp_path / "none.csv").write_text("text,label\na,\nb,\n")
    with pytest.raises(NoLabelsError, match="no class label among 'text', 'label'"):
        load_samples(tmp_path / "none.csv").require_labels()


def test_whole_numbers_stored_as_fractions_are_classes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("label,text,score\n1.0,a,2.0\n0.0,b,3.5\n2.0,c,1.0\n")
    samples = load_samples(tmp_path / "rows.csv")
    assert (samples.label, samples.require_labels().labels().tolist()) == ("label", [1, 0, 2])
    data = Dataset.from_dict({"text": list("abcd"), "y": [1.0, 0.5, None, 0.0]}).select([0, 3])
    assert load_samples(data).labels().tolist() == [1, 0]
    assert load_samples(data, label="y").labels().tolist() == [1, 0]
    both = Dataset.from_dict({"text": list("ab"), "label": [4.0, 5.0], "target": ["x", "y"]})
    assert load_samples(both).label == "target"
    with pytest.raises(DataError, match=r"column 'score' holds 3.5 in row 1 \(from 0\)"):
        load_samples(tmp_path / "rows.csv", label="score").labels()


def test_requirements_choose_what_batches_hold() -> None:
    both = load_samples(pictures(2).add_column("text", ["a", "b"]))
    assert values(both.require_images()) == [0, 10]
    assert both.require_texts().inputs(range(2)) == ["a", "b"]


def test_a_label_beyond_all_numbers_of_classes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"text,label\na,1\nb,{2**63}\n")
    with pytest.raises(DataError, match="label 9223372036854775808 is too large"):
        load_samples(tmp_path / "rows.csv").labels()
