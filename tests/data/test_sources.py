"""Every kind of source, and every way one can be wrong. Nothing here may touch the network."""

import bz2
import gzip
import json
import lzma
import sqlite3
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
import torch
from datasets import Dataset, DatasetDict, Features, Value
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import logging as hub_logging
from pictures import NAMES, one_line, pictures, values, write_image
from pyarrow.parquet import write_table

from transfuse.base.libraries import quiet
from transfuse.data.load import is_same_source, load_samples
from transfuse.errors import DataError


def test_image_folder_with_classes(tmp_path: Path, lookups: list[str]) -> None:
    for index, name in enumerate(["owl", "cat", "cat"]):
        write_image(tmp_path / name / f"test_{index}.png", 10 * index)  # "test" in a file's name is not a split
    (tmp_path / "README.txt").write_text("not data")
    write_image(tmp_path / ".thumbnails" / "a.png", 99)
    write_image(tmp_path / "__MACOSX" / "a.png", 99)
    samples = load_samples(tmp_path)
    assert values(samples) == [10, 20, 0]
    assert (samples.names, samples.labels().tolist()) == (("cat", "owl"), [0, 0, 1])
    assert lookups == []


def test_image_folder_without_classes(tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / f"{index}.jpg", 10 * index)
    samples = load_samples(str(tmp_path))
    assert len(samples) == 3
    assert samples.label is None
    batch = next(samples.batches(lambda images: {"n": torch.tensor(len(images))}, 8))
    assert set(batch) == {"n"}


def test_image_folder_with_splits(tmp_path: Path) -> None:
    for split, name, value in [("train", "cat", 0), ("train", "dog", 10), ("val", "dog", 20)]:
        write_image(tmp_path / split / name / "x.png", value)
    assert values(load_samples(tmp_path)) == [20]
    assert load_samples(tmp_path).labels().tolist() == [1]
    assert values(load_samples(tmp_path, "train")) == [0, 10]
    assert "split validation" in load_samples(tmp_path).name


@pytest.mark.parametrize("stray", ["cover.png", "train/cover.png"])
def test_an_image_beside_folders_of_images_is_refused(stray: str, tmp_path: Path) -> None:
    for split, name in [("train", "cat"), ("train", "dog"), ("test", "dog")]:
        write_image(tmp_path / split / name / "x.png", 0)
    write_image(tmp_path / stray, 0)
    with pytest.raises(DataError, match=rf"{stray}: lies beside folders of images, .*; move it .* or remove it"):
        load_samples(tmp_path)


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    for index, name in enumerate(["bus", "train"]):
        write_image(tmp_path / name / "x.png", 10 * index)
    samples = load_samples(tmp_path)
    assert (values(samples), samples.names) == ([0, 10], ("bus", "train"))


def test_image_folder_with_metadata(tmp_path: Path) -> None:
    for index in range(2):
        write_image(tmp_path / "train" / f"{index}.png", 10 * index)
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n1.png,dog\n0.png,cat\n")
    samples = load_samples(tmp_path)
    assert (values(samples), samples.labels().tolist(), samples.names) == ([10, 0], [1, 0], ("cat", "dog"))


def test_one_table_of_the_images_of_several_splits(tmp_path: Path) -> None:
    lines = [f"{split}/{index}.png,{index}" for split in ("train", "test") for index in range(2 + (split == "test"))]
    for index, line in enumerate(lines):
        write_image(tmp_path / line.split(",")[0], 10 * index)
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *lines]) + "\n")
    samples = load_samples(tmp_path)
    assert (values(samples), samples.labels().tolist(), samples.split) == ([20, 30, 40], [0, 1, 2], "test")
    assert values(load_samples(tmp_path, "train")) == [0, 10]
    assert samples.files == {str(tmp_path / "metadata.csv")}
    write_image(tmp_path / "cover" / "0.png", 50)
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *lines, "cover/0.png,1"]) + "\n")
    assert values(load_samples(tmp_path)) == [0, 10, 20, 30, 40, 50]


def test_one_table_of_the_images_of_splits_in_the_only_folder(tmp_path: Path) -> None:
    lines = [f"images/{split}/0.png,{split}" for split in ("train", "test")]
    for index, line in enumerate(lines):
        write_image(tmp_path / line.split(",")[0], 10 * index)
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *lines]) + "\n")
    assert (values(load_samples(tmp_path)), values(load_samples(tmp_path, "train"))) == ([10], [0])


def test_one_split_in_several_folders_is_refused(tmp_path: Path) -> None:
    for name in ("cola", "sst2"):
        for split in ("train", "test"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{split}-00000-of-00001.csv").write_text(f"sentence\n{name} {split}\n")
    with pytest.raises(DataError, match=r"several folders have a split test \('cola', 'sst2'\); give one of them"):
        load_samples(tmp_path)
    assert load_samples(tmp_path / "cola").inputs([0]) == ["cola test"]
    for name in ("a", "b"):
        (tmp_path / "cola" / "train" / name).mkdir(parents=True)
        (tmp_path / "cola" / "train" / name / "0.csv").write_text(f"sentence\n{name}\n")
    (tmp_path / "cola" / "train-00000-of-00001.csv").unlink()
    assert load_samples(tmp_path / "cola", "train").inputs([0, 1]) == ["a", "b"]


def test_parquet(tmp_path: Path, lookups: list[str]) -> None:
    path = tmp_path / "with [brackets]*.parquet"
    pictures().to_parquet(path)
    samples = load_samples(path)
    assert (values(samples), samples.names) == ([0, 10, 20, 30, 40, 50], tuple(NAMES))
    assert lookups == []


def test_folder_of_parquet_shards_and_splits(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, rows in [("train-0", [0, 1]), ("train-1", [2]), ("validation-0", [3]), ("test-0", [4, 5])]:
        pictures().select(rows).to_parquet(tmp_path / "data" / f"{name}.parquet")
    assert values(load_samples(tmp_path)) == [40, 50]
    assert values(load_samples(tmp_path, "valid")) == [30]
    assert values(load_samples(tmp_path, "train")) == [0, 10, 20]
    with pytest.raises(DataError, match="no split 'dev2'; it has test, train, validation"):
        load_samples(tmp_path, "dev2")


def test_splits_of_other_usual_names_in_files(tmp_path: Path) -> None:
    names = ("train_gen-00000-of-00001-a09b74b3ef9c3b56", "train_sft-00000-of-00002", "train_sft-00001-of-00002")
    for name in (*names, "validation_matched", "validation_mismatched", "test_part1", "test_part2"):
        Dataset.from_dict({"text": [name]}).to_parquet(tmp_path / f"{name}.parquet")
    assert load_samples(tmp_path, "train_sft").inputs([0, 1]) == list(names[1:])
    assert load_samples(tmp_path, "train_gen").inputs([0]) == list(names[:1])
    assert load_samples(tmp_path).inputs([0, 1]) == ["test_part1", "test_part2"]
    with pytest.raises(DataError, match="several splits validation: validation_matched, validation_mismatched; "):
        load_samples(tmp_path, ("validation", "train"))


def test_files_of_one_split_by_class_are_joined_if_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\nx,0\n")
    (tmp_path / "train_neg.csv").write_text("text,label\nbad,0\nawful,0\n")
    (tmp_path / "train_pos.csv").write_text("text,label\ngood,1\ngreat,1\n")
    samples = load_samples(tmp_path, "training")
    assert samples.inputs(range(len(samples))) == ["bad", "awful", "good", "great"]
    assert (samples.split, len(samples.files)) == ("train", 2)
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path, ("train", "test"))
    several = "several splits train: train_neg, train_pos; choose with --split, or --split train for all of them"
    assert one_line(caught).endswith(several)


def test_a_split_beside_the_usual_ones(tmp_path: Path) -> None:
    for name in ("train", "test", "unsupervised"):
        Dataset.from_dict({"text": [name]}).to_parquet(tmp_path / f"{name}-00000-of-00001.parquet")
    assert load_samples(tmp_path).inputs([0]) == ["test"]
    for name in ("train", "unsupervised"):
        assert load_samples(tmp_path, name).inputs([0]) == [name]
    (tmp_path / "unsupervised-00000-of-00001.parquet").rename(tmp_path / "extra.parquet")
    assert load_samples(tmp_path, "train").inputs([0]) == ["train"]
    for split in ("validation", ("test", "train")):
        with pytest.raises(DataError, match=r"extra\.parquet does not"):
            load_samples(tmp_path, split)


def test_text_files_beside_tables_are_named_and_descriptions_are_no_texts(tmp_path: Path) -> None:
    for name in ("README.txt", "LICENSE.txt", "notes.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    samples = load_samples(tmp_path)
    assert (samples.inputs(range(len(samples))), samples.notes) == (["notes.txt"], ())
    (tmp_path / "rows.csv").write_text("text\nrow\n")
    samples = load_samples(tmp_path)
    assert samples.inputs(range(len(samples))) == ["row"]
    assert samples.notes == (f"{tmp_path}: 1 file is left out, of a kind that is not read beside tables (1 .txt)",)


def test_texts_whose_names_only_begin_like_descriptions_are_read(tmp_path: Path) -> None:
    for name in ("a.txt", "license_mit.txt", "licenses.txt", "README.txt", "LICENSE.txt.gz"):
        opener = gzip.open if name.endswith("gz") else open
        with opener(tmp_path / name, "wt") as file:
            file.write(f"{name}\n")
    assert load_samples(tmp_path).inputs([0, 1, 2]) == ["a.txt", "license_mit.txt", "licenses.txt"]
    assert len(load_samples(tmp_path)) == 3
    for name in ("a.txt", "license_mit.txt"):
        (tmp_path / name).unlink()
    samples = load_samples(tmp_path)
    assert samples.inputs(range(len(samples))) == ["licenses.txt"]


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file")
    (tmp_path / "rows.csv").write_text("text\nrow\n")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path / "rows.csv")
    assert f"{tmp_path / 'cache'}" in one_line(caught)
    assert "HF_DATASETS_CACHE" in one_line(caught)
    assert "repair" not in one_line(caught)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl"])
def test_tables_of_texts(tmp_path: Path, suffix: str) -> None:
    rows = [("x", "dog", "good"), ("y", "None", "NA"), ("z", "cat", "bad")]
    keys = ("id", "target", "sentence")
    path = tmp_path / f"rows.{suffix}"
    if suffix in ("csv", "tsv"):
        path.write_text("\n".join(("," if suffix == "csv" else "\t").join(row) for row in [keys, *rows]) + "\n")
    else:
        objects = [dict(zip(keys, row, strict=True)) for row in rows]
        path.write_text(json.dumps(objects) if suffix == "json" else "\n".join(map(json.dumps, objects)))
    samples = load_samples(path)
    assert (samples.image, samples.text, samples.label) == (None, "sentence", "target")
    assert samples.inputs(range(3)) == ["good", "NA", "bad"]
    assert (samples.names, samples.labels().tolist()) == (("None", "cat", "dog"), [2, 0, 1])


def test_a_blank_cell_is_an_empty_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,1\n,0\n")
    assert load_samples(tmp_path).inputs(range(2)) == ["a", ""]


def test_text_file_is_one_sample_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n")
    for source in (tmp_path, tmp_path / "a.txt"):
        samples = load_samples(source)
        assert (samples.text, samples.label) == ("text", None)
        assert samples.inputs(range(3)) == ["one", "two", "three"]


def test_saved_to_disk(tmp_path: Path) -> None:
    pictures(2).save_to_disk(tmp_path / "one")
    DatasetDict(train=pictures(6), validation=pictures(3)).save_to_disk(tmp_path / "many")
    assert len(load_samples(tmp_path / "one")) == 2
    assert len(load_samples(tmp_path / "many")) == 3
    assert len(load_samples(tmp_path / "many", "train")) == 6


def test_saved_datasets_in_subfolders_are_splits(tmp_path: Path) -> None:
    for split, number in {"train": 6, "test": 3}.items():
        pictures(number).save_to_disk(tmp_path / split)
    (tmp_path / "notes.txt").write_text("not data")
    samples = load_samples(tmp_path)
    assert (len(samples), samples.split) == (3, "test")
    assert values(load_samples(tmp_path, "train")) == [0, 10, 20, 30, 40, 50]
    (tmp_path / "notes.txt").unlink()
    (tmp_path / "test" / "state.json").unlink()
    with pytest.raises(DataError, match=r"\.arrow files are not read"):
        load_samples(tmp_path)


def test_in_memory_ignores_its_format() -> None:
    samples = load_samples(pictures(3).with_format("torch"))
    assert samples.dataset.format["type"] is None
    assert values(samples) == [0, 10, 20]
    with pytest.raises(DataError, match="no split 'test'"):
        load_samples(pictures(3), "test")
    with pytest.raises(DataError, match="say which split to use: a, b"):
        load_samples(DatasetDict(a=pictures(1), b=pictures(1)))


def test_hub_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HfApi, "dataset_info", lambda *args, **kwargs: None)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, revision: DatasetDict(train=pictures(4), test=pictures(2))
    )
    samples = load_samples("someone/pictures")
    assert (len(samples), samples.name) == (2, "someone/pictures (split test)")


def test_revision_of_a_hub_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, revision, timeout: asked.append((name, revision)))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, revision: asked.append((name, revision)) or pictures(2))
    assert load_samples("someone/pictures@v1.0").name == "someone/pictures@v1.0"
    assert asked == [("someone/pictures", "v1.0")] * 2

    def missing(*args: Any, **kwargs: Any) -> None:
        raise RevisionNotFoundError.__new__(RevisionNotFoundError)

    monkeypatch.setattr(HfApi, "dataset_info", missing)
    with pytest.raises(DataError, match=r"someone/pictures: the Hub has no revision 'v9' of this dataset"):
        load_samples("someone/pictures@v9")


def test_configuration_of_a_hub_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(HfApi, "dataset_info", lambda self, name, revision, timeout: asked.append((name, revision)))

    def load(name: str, config: str | None = None, revision: str | None = None) -> Dataset:
        asked.append((name, config, revision))
        if config is None:
            raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['en.1', 'de']")
        return pictures(2)

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert load_samples("someone/pictures:en.1@v1.0").name == "someone/pictures:en.1@v1.0"
    assert len(load_samples("pictures:de")) == 2
    assert asked == [
        ("someone/pictures", "v1.0"),
        ("someone/pictures", "en.1", "v1.0"),
        ("pictures", None),
        ("pictures", "de", None),
    ]
    with pytest.raises(DataError) as caught:
        load_samples("pictures")
    assert "available configs: ['en.1', 'de']; write pictures:CONFIG" in one_line(caught)


@pytest.mark.parametrize("source", ["nowhere/at/all", "./nowhere", "nowhere.csv", Path("nowhere")])
def test_not_found(source: str | Path, lookups: list[str]) -> None:
    with pytest.raises(DataError, match=r"nowhere.*: no such file or folder; check the path"):
        load_samples(source)
    assert lookups == []


def test_not_found_and_the_hub_out_of_reach(lookups: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        load_samples("someone/pictures")
    assert "someone/pictures: no such file or folder here, and the Hub could not be reached" in one_line(caught)
    assert lookups != []


def test_not_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(HfApi, "dataset_info", missing)
    with pytest.raises(DataError, match="nor a public dataset on the Hub"):
        load_samples("someone/pictures")


def test_a_cached_hub_dataset_is_tried_when_the_hub_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    (datasets.config.HF_DATASETS_CACHE / "someone___my_pictures").mkdir()
    monkeypatch.setattr(datasets, "load_dataset", lambda name, revision: pictures(2))
    assert len(load_samples("someone/my-pictures")) == 2

    def broken(name: str, revision: None) -> None:
        raise ValueError("a\nb")

    monkeypatch.setattr(datasets, "load_dataset", broken)
    with pytest.raises(DataError, match="cannot be loaded: a b"):
        load_samples("someone/my-pictures")


def test_nothing_readable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable file"):
        load_samples(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"1")
    with pytest.raises(DataError, match="no readable file"):
        load_samples(tmp_path)
    with pytest.raises(DataError, match=r"model\.bin: not a kind of file"):
        load_samples(tmp_path / "model.bin")


def test_several_kinds_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\n')
    with pytest.raises(DataError, match=r"several kinds \(\.csv, \.jsonl\); give .*a\.csv to read it, or keep"):
        load_samples(tmp_path)
    (tmp_path / "b.jsonl").unlink()
    write_image(tmp_path / "c.png", 0)
    with pytest.raises(DataError, match=r"several kinds \(\.csv, \.png\); .*images metadata\.csv"):
        load_samples(tmp_path)


def test_only_some_files_name_a_split(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\nx\n")
    (tmp_path / "extra.csv").write_text("text\nx\n")
    with pytest.raises(DataError, match=r"extra\.csv does not"):
        load_samples(tmp_path)


def test_no_rows(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "header.csv").write_text("text,label\n")
    Dataset.from_dict({"text": []}, features=Features({"text": Value("string")})).to_parquet(tmp_path / "a.parquet")
    for source in [tmp_path / "empty.csv", tmp_path / "header.csv", tmp_path / "a.parquet", pictures(0)]:
        with pytest.raises(DataError, match="no rows"):
            load_samples(source)


@pytest.mark.parametrize("damage", ["footer", "pages"])
def test_corrupt_parquet_names_the_file(tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    for index in range(3):
        pictures(40).to_parquet(tmp_path / f"{index}.parquet")
    content = bytearray((tmp_path / "1.parquet").read_bytes())
    where = slice(-4, None) if damage == "footer" else slice(4, 60)
    content[where] = b"\xff" * len(content[where])
    (tmp_path / "1.parquet").write_bytes(content)
    capfd.readouterr()
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path)
    assert "1.parquet: cannot be read as parquet" in one_line(caught)
    assert capfd.readouterr() == ("", "")


def test_files_of_different_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")
    (tmp_path / "b.csv").write_text("number\n1\n")
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path)
    assert f"{tmp_path}: cannot be read together" in one_line(caught)


def test_broken_saved_dataset(tmp_path: Path) -> None:
    pictures(2).save_to_disk(tmp_path / "d")
    (tmp_path / "d" / "state.json").write_text("{")
    with pytest.raises(DataError, match="the saved dataset cannot be read"):
        load_samples(tmp_path / "d")


def test_progress_bars_are_off_while_loading_and_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pictures().to_parquet(tmp_path / "a.parquet")
    capfd.readouterr()
    datasets.enable_progress_bars()
    level = datasets.logging.get_verbosity()
    load_samples(tmp_path)
    assert capfd.readouterr().err == ""
    with quiet():
        assert datasets.logging.get_verbosity() == hub_logging.get_verbosity() == datasets.logging.CRITICAL
    assert datasets.is_progress_bar_enabled()
    with pytest.raises(DataError):
        load_samples(tmp_path, "nothing")
    assert datasets.is_progress_bar_enabled()
    assert datasets.logging.get_verbosity() == level
    datasets.disable_progress_bars()
    load_samples(tmp_path)
    assert not datasets.is_progress_bar_enabled()
    datasets.enable_progress_bars()


@pytest.mark.parametrize(("suffix", "opened"), [(".gz", gzip.open), (".bz2", bz2.open), (".xz", lzma.open)])
def test_compressed_files(suffix, opened, tmp_path: Path) -> None:
    for name, text in (("train.jsonl", '{"text": "one"}\n{"text": "two"}\n'), ("test.jsonl", '{"text": "three"}\n')):
        with opened(tmp_path / f"{name}{suffix}", "wt") as file:
            file.write(text)
    assert load_samples(tmp_path / f"train.jsonl{suffix}").inputs([0, 1]) == ["one", "two"]
    assert load_samples(tmp_path, "test").inputs([0]) == ["three"]
    assert load_samples(tmp_path, "train").inputs([1]) == ["two"]


BOOK = "\n\nOnce upon\na time\n\n\nthere was\n  \nand so on\n\n"


@pytest.mark.parametrize(
    ("content", "lines", "texts"),
    [
        (BOOK, False, ["Once upon\na time", "there was", "and so on"]),
        ("one\n \n two\nthree\n\t\nfour\n", False, ["one", " two\nthree", "four"]),
        ("\ufeffone\ntwo\n", False, ["one", "two"]),
        ("\ufeffone\n\ntwo\n", False, ["one", "two"]),
        (BOOK, True, ["Once upon", "a time", "there was", "and so on"]),
        ("one\ntwo\n\n", False, ["one", "two"]),
        ("one\r\ntwo", False, ["one", "two"]),
    ],
)
def test_texts_between_blank_lines(content: str, lines: bool, texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(content, newline="")
    samples = load_samples(tmp_path / "book.txt", lines=lines)
    assert samples.inputs(range(len(samples))) == texts


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_words_with_tags_in_lines(separator: str, tmp_path: Path) -> None:
    """As in CoNLL-2003 and WNUT-17."""
    rows = [["-DOCSTART-", "-X-", "O"], [], ["Anna", "NNP", "B-PER"], ["runs", "VB", "O"], [], ["Rome", "NN", "I-LOC"]]
    content = "# id 1\n" + "\n".join(separator.join(row) for row in rows)
    (tmp_path / "train.txt").write_text(content + "\n")
    samples = load_samples(tmp_path)
    assert samples.inputs([0, 1]) == ["Anna runs", "Rome"]
    assert samples.dataset["tokens"][:] == [["Anna", "runs"], ["Rome"]]
    assert samples.dataset["ner_tags"][:] == [["B-PER", "O"], ["I-LOC"]]


@pytest.mark.parametrize("content", ["Anna O\nruns O\n\nRome O\n", "Anna B-PER\nin the O\n\nRome O\n", "a\nb\n\nc\n"])
def test_texts_in_lines_without_a_tag_each(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(content)
    assert load_samples(tmp_path / "a.txt").inputs([0, 1]) == content.rstrip().split("\n\n")


def test_blank_lines_count_for_their_own_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write(BOOK)
    (tmp_path / "c.txt").write_text("\nthree\n\n")
    samples = load_samples(tmp_path)
    texts = ["one", "two", "three", "Once upon\na time", "there was", "and so on"]
    assert samples.inputs(range(len(samples))) == texts


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one.png", "is a single image; give the folder that it is in"),
        (
            "shard.tar",
            r".tar files are not read; .*load_dataset\('webdataset', data_files='shard.tar',",
        ),
        ("rows.db", r".db files are not read; .*from_sql\('select \* from TABLE', sqlite3.connect\('rows.db'\)\)"),
        ("rows.zip", ".zip files are not read; unpack it"),
        ("rows.npz", "not a kind of file that can be read; expected images, .parquet"),
    ],
)
def test_other_files_are_answered_with_what_to_do(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(DataError, match=f"{name}: {message}"):
        load_samples(tmp_path / name)


def test_the_advice_for_a_database_works(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("create table rows (text, label)")
        database.executemany("insert into rows values (?, ?)", [("a", "x"), ("b", "y")])
    database = sqlite3.connect(tmp_path / "rows.db")
    Dataset.from_sql("select * from rows", database).save_to_disk(tmp_path / "saved")
    assert load_samples(tmp_path / "saved").names == ("x", "y")


def test_a_parquet_file_without_rows_is_empty(tmp_path: Path) -> None:
    empty = pyarrow.table({"text": pyarrow.array([], pyarrow.string())})
    write_table(empty, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: empty; no rows in it"):
        load_samples(tmp_path / "a.parquet")
    write_table(pyarrow.table({"text": ["a"]}), tmp_path / "b.parquet")
    assert load_samples(tmp_path).inputs([0]) == ["a"]
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"b.parquet: cannot be read as parquet"):
        load_samples(tmp_path / "b.parquet")


def test_what_is_wrong_with_a_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("text,label\nZürich,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv: is not UTF-8; save it as UTF-8 \(in Excel: CSV UTF-8\)"):
        load_samples(tmp_path / "latin.csv")
    (tmp_path / "latin.txt").write_bytes("Zürich\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.txt: is not UTF-8; save it as UTF-8$"):
        load_samples(tmp_path / "latin.txt")
    (tmp_path / "mixed.jsonl").write_text('{"text": "a", "label": 1}\n{"text": ["b"], "label": 2}\n')
    samples = load_samples(tmp_path / "mixed.jsonl")
    with pytest.raises(DataError, match=r"column 'text' holds values of several kinds, not texts"):
        samples.require_texts()
    (tmp_path / "rows.jsonl.zst").write_bytes(pyarrow.compress(b'{"text": "a"}\n', codec="zstd", asbytes=True))
    if find_spec("zstandard"):
        assert load_samples(tmp_path / "rows.jsonl.zst").inputs([0]) == ["a"]
    else:
        with pytest.raises(DataError, match=r"rows.jsonl.zst: needs the package zstandard"):
            load_samples(tmp_path / "rows.jsonl.zst")


def test_samples_of_one_file_are_the_same_by_whatever_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_dict({"text": ["a b", "c d"]})
    for split in ("train", "test"):
        rows.to_parquet(tmp_path / "data" / f"{split}.parquet")
    DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "saved")
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    used = load_samples(tmp_path / "data", "train")
    for other in ("data/train.parquet", "linked", "./data", "../" + tmp_path.name + "/data"):
        assert is_same_source(used, load_samples(other, ("train",))), other
    assert not is_same_source(used, load_samples("data", "test"))
    saved = load_samples(tmp_path / "saved", "train")
    assert is_same_source(saved, load_samples("saved", "train"))
    assert not is_same_source(saved, load_samples("saved", "test"))
    assert not is_same_source(used, saved)
