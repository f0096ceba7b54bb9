"""Samples that a Python program holds. Nothing here may touch the network."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from datasets import Array2D, ClassLabel, Dataset, Features, Image, IterableDataset, IterableDatasetDict, Value
from pictures import one_line, picture, pictures, values, write_image
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler, TensorDataset

from transfuse.data.files import in_memory
from transfuse.data.load import load_samples
from transfuse.data.samples import Samples
from transfuse.errors import DataError

ROWS = [{"text": "one", "label": 1}, {"label": 0, "text": "two"}]
TOKENS = {"input_ids": torch.tensor([1, 2]), "attention_mask": torch.tensor([1, 1])}


def texts(samples: Samples) -> list[str]:
    return samples.inputs(range(len(samples)))


def test_a_list_of_texts() -> None:
    samples = load_samples(["one", "two"])
    assert texts(samples) == ["one", "two"]
    assert samples.label is None
    assert samples.name == "dataset in memory"


def test_a_list_of_images() -> None:
    assert values(load_samples([picture(10), picture(20)])) == [10, 20]


def test_a_column_of_a_dataset() -> None:
    assert texts(load_samples(Dataset.from_dict({"words": ["one", "two"]})["words"])) == ["one", "two"]
    images = Dataset.from_dict({"image": [picture(10), picture(20)]}, Features({"image": Image()}))
    assert values(load_samples(images["image"])) == [10, 20]


def test_a_list_of_paths_of_images(tmp_path: Path) -> None:
    paths = [tmp_path / f"{value}.png" for value in (10, 20)]
    for path in paths:
        write_image(path, int(path.stem))
    assert values(load_samples(paths)) == [10, 20]
    assert values(load_samples(list(map(str, paths)))) == [10, 20]


def test_a_list_of_conversations() -> None:
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    assert texts(load_samples([turns]))[0] == turns


@pytest.mark.parametrize("label", [int, np.int64, torch.tensor])
def test_a_list_of_rows(label: Any) -> None:
    samples = load_samples([row | {"label": label(row["label"])} for row in ROWS])
    assert texts(samples) == ["one", "two"]
    assert samples.labels().tolist() == [1, 0]


def test_a_column_may_begin_in_a_later_row() -> None:
    samples = load_samples([{"text": "one"}, {"text": "two", "label": "owl"}])
    assert samples.names == ("owl",)
    assert samples.labels().tolist() == [-100, 0]


def test_a_list_of_rows_with_images() -> None:
    samples = load_samples([{"image": picture(10), "label": "owl"}, {"image": picture(20), "label": "cat"}])
    assert values(samples) == [10, 20]
    assert (samples.names, samples.labels().tolist()) == (("cat", "owl"), [1, 0])


def test_columns() -> None:
    assert load_samples({"text": ["one", "two"], "label": np.array([1, 0])}).labels().tolist() == [1, 0]


def test_a_data_frame_with_missing_values() -> None:
    frame = pandas.DataFrame({"text": ["one", None, "two"], "label": [1, None, 0]}, index=[7, 8, 9])
    before = frame.copy()
    samples = load_samples(frame)
    assert texts(samples) == ["one", "", "two"]
    assert samples.labels().tolist() == [1, -100, 0]
    assert samples.dataset.column_names == ["text", "label"]
    pandas.testing.assert_frame_equal(frame, before)


def test_a_data_frame_with_images_and_categories() -> None:
    frame = pandas.DataFrame({"image": [picture(10), picture(20)], "label": pandas.Categorical(["owl", "cat"])})
    samples = load_samples(frame)
    assert values(samples) == [10, 20]
    assert (samples.names, samples.labels().tolist()) == (("cat", "owl"), [1, 0])


def test_a_series() -> None:
    assert texts(load_samples(pandas.Series(["one", "two"], index=[3, 4]))) == ["one", "two"]


def test_a_stream_keeps_its_features() -> None:
    samples = load_samples(pictures().to_iterable_dataset())
    assert values(samples) == [0, 10, 20, 30, 40, 50]
    assert (samples.names, samples.name) == (("cat", "dog", "owl"), "dataset in memory")


def test_a_stream_is_read_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def rows() -> Iterator[dict[str, str]]:
        for row in range(1000):
            read.append(row)
            yield {"text": f"text {row}"}

    monkeypatch.setattr(in_memory, "MAX_ROWS", 5)
    samples = load_samples(IterableDataset.from_generator(rows))
    assert texts(samples) == [f"text {row}" for row in range(5)]
    assert samples.name == "dataset in memory, first 5 rows of a stream"
    assert len(read) < 10


def test_a_stream_is_read_until_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_memory, "MAX_BYTES", 5000)
    samples = load_samples(Dataset.from_dict({"text": ["x" * 100] * 1000}).to_iterable_dataset())
    assert 50 <= len(samples) <= 200
    assert samples.name == f"dataset in memory, first {len(samples)} rows of a stream"


def test_chunks_of_a_stream_may_differ_in_what_is_missing() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for row in range(300):
            yield {"text": f"text {row}", "label": None if row < 150 else row % 2}

    assert load_samples(IterableDataset.from_generator(rows)).labels()[[0, 150, 151]].tolist() == [-100, 0, 1]


def test_streams_by_split() -> None:
    streams = {name: Dataset.from_dict({"text": [name]}).to_iterable_dataset() for name in ("train", "test")}
    assert texts(load_samples(IterableDatasetDict(streams))) == ["test"]
    assert texts(load_samples(streams, "train")) == ["train"]


@pytest.mark.parametrize("held", [pandas.DataFrame, lambda rows: rows, lambda rows: rows["text"]])
def test_tables_and_lists_by_split(held: Any) -> None:
    splits = {name: held({"text": [f"{name} a", f"{name} b"]}) for name in ("train", "test")}
    assert texts(load_samples(splits, "train")) == ["train a", "train b"]
    samples = load_samples(splits)
    assert (texts(samples), samples.split) == (["test a", "test b"], "test")


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA])
def test_missing_texts_of_a_list_are_left_out(missing: Any) -> None:
    for held in (list, pandas.Series):
        for items in (["one", missing], [missing, "one"]):
            samples = load_samples(held(items)).require_texts()
            assert texts(samples) == ["one"]
            assert samples.notes == ("dataset in memory: 1 of 2 texts is empty and left out",)


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_of_raw_samples_gives_its_dataset(shuffle: bool) -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["owl", "cat"])})
    dataset = Dataset.from_list(ROWS, features=features)
    for held in (dataset, dataset.with_format("torch"), ROWS, Subset(dataset, [0, 1])):
        samples = load_samples(DataLoader(held, batch_size=2, shuffle=shuffle))  # type: ignore[arg-type]
        assert texts(samples) == ["one", "two"]
        assert samples.labels().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataLoader([TOKENS]), "column 'input_ids' holds prepared inputs; give the texts or images themselves"),  # type: ignore[arg-type]
        (Dataset.from_list([TOKENS]), "column 'input_ids' holds prepared inputs"),
        (DataLoader(TensorDataset(torch.zeros(2, 3))), "its items are tensors; give the texts or images themselves"),
        (DataLoader(ROWS, sampler=SubsetRandomSampler([0])), "does not read all samples"),  # type: ignore[arg-type]
        (None, "data: a NoneType cannot be read; give a path, a list of texts"),
        (map(str, "ab"), "data: a map cannot be read; give"),
        ([], "empty"),
        (["one", 2], "item 1 (from 0) is an int, and item 0 is a str; give items of one kind"),
        ([("one", 1)], "item 0 is a tuple; give a list of texts, of PIL images, or of dicts such as"),
        ([{"text": "one"}, {"text": 2}], "column 'text' holds an int in row 1 and a str in row 0 (from 0); give"),
        ([{1: "one"}], "column 1 has no text as its name"),
        ({"text": "one"}, "column 'text' is a str; give a list"),
        ({"text": ["one"], "label": [1, 2]}, "{'text': 1, 'label': 2} rows; give lists of the same length"),
        (
            pandas.DataFrame({"text": ["one", 2]}),
            "column 'text' holds an int in row 1 and a str in row 0 (from 0); give",
        ),
        (["one", "\ud800x"], "row 1 (from 0) of column 'text' has '\\ud800', which is not a character; remove it"),
        (pandas.DataFrame({"text": ["\ud800"]}, dtype=object), "row 0 (from 0) of column 'text' has '\\ud800'"),
        ([[{"role": "user", "content": "\ud800"}]], "row 0 (from 0) of column 'messages' has '\\ud800'"),
        ([["one", "two"]], "item 0 (from 0) is a list with a str; give texts, pairs as dicts such as"),
        ({"text": ["one"], "other": pandas.DataFrame({"a": [1]})}, "column 'other' is a DataFrame; give a list"),
        ([None], "item 0 is a NoneType; give a list of texts"),
        ([np.zeros((4, 4, 3))], "item 0 is a ndarray; arrays are not read as images; make each a PIL image with"),
        (torch.zeros(2, 3, 4, 4), "a Tensor cannot be read; arrays are not read as images; make each a PIL image with"),
        ([io.BytesIO(b"a")], "item 0 is a BytesIO; open files are not read; make each a PIL image with PIL.Image.open"),
        ([{"image": io.BytesIO(b"a")}], "row 0 (from 0) of column 'image' holds a BytesIO; open files are not read"),
        (pandas.DataFrame({"image": [picture(1), 2]}), "row 1 (from 0) of column 'image' holds an int"),
        ([__file__], "is a file; give one file or folder as a path, not in a list"),
        ([Path(__file__)], "is a file; give one file or folder as a path, not in a list"),
        ([Path("missing.csv")], "missing.csv is not an image file; give one file or folder as a path, not in a list"),
        ([Path("missing.png")], "missing.png, which is not there"),
    ],
)
def test_what_cannot_be_read_is_one_line(data: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_samples(data).require_images()
    assert message in one_line(caught)


@pytest.mark.parametrize(
    "data",
    [
        [{"image": np.zeros((4, 4, 3), np.uint8)}],
        {"image": torch.zeros(2, 3, 4, 4)},
        Dataset.from_dict({"image": [[[1, 2]]]}, features=Features({"image": Array2D((1, 2), "uint8")})),
    ],
)
def test_arrays_are_not_read_as_images(data: Any) -> None:
    with pytest.raises(DataError, match=r"column 'image' holds arrays; .*PIL\.Image\.fromarray"):
        load_samples(data).require_images()


@pytest.mark.parametrize("mode", ["HSV", "RGBa"])
def test_images_of_modes_that_no_file_holds_are_converted(mode: str) -> None:
    image = picture(90).convert("RGBA" if mode == "RGBa" else "RGB").convert(mode)
    for data in ([image], pandas.DataFrame({"image": [image]})):
        assert load_samples(data).inputs([0])[0].convert("RGB").getpixel((0, 0)) == (90, 90, 90)


def test_a_broken_stream_is_one_line() -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise RuntimeError("no\nconnection")

    with pytest.raises(DataError) as caught:
        load_samples(IterableDataset.from_generator(rows))
    assert "the stream cannot be read: no" in one_line(caught)
