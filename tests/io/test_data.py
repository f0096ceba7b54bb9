"""Every kind of source, every error, and batches that a model can run on. Nothing here may touch the network."""

import io
import json
import socket
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import logging as hub_logging
from transformers import ViTConfig, ViTForImageClassification

from transfuse.batch import MISSING
from transfuse.errors import CheckpointError, DataError
from transfuse.io.data import Samples, load_samples
from transfuse.io.images import image_preparer, load_processor
from transfuse.io.quiet import quiet

NAMES = ["cat", "dog", "owl"]


@pytest.fixture(autouse=True)
def lookups(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Hosts that anything tried to reach, all in vain; the cache of `datasets` is new."""
    tried: list[str] = []

    def unreachable(host: str, *args: Any, **kwargs: Any) -> None:
        tried.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    return tried


def picture(value: int, mode: str = "RGB", size: int = 4) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (size, size), (value, value, value)).convert(mode)


def encoded(value: int) -> bytes:
    buffer = io.BytesIO()
    picture(value).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(count: int = 6, mode: str = "RGB") -> Dataset:
    """Image k is of value 10 k, and of class k modulo 3."""
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    rows = {"image": [picture(10 * k, mode) for k in range(count)], "label": [k % 3 for k in range(count)]}
    return Dataset.from_dict(rows, features=features)


def write_image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(value).save(path)


def values(samples: Samples) -> list[int]:
    """The grey value of each image."""
    return [image.convert("L").getpixel((0, 0)) for image in samples.inputs(range(len(samples)))]


def one_line(caught: pytest.ExceptionInfo[Any]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


# Sources


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
    assert "split validation" in load_samples(tmp_path).source


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
    (tmp_path / "a.txt").write_text("one\n\nthree\n")
    for source in (tmp_path, tmp_path / "a.txt"):
        samples = load_samples(source)
        assert (samples.text, samples.label) == ("text", None)
        assert samples.inputs(range(3)) == ["one", "", "three"]


def test_saved_to_disk(tmp_path: Path) -> None:
    pictures(2).save_to_disk(tmp_path / "one")
    DatasetDict(train=pictures(6), validation=pictures(3)).save_to_disk(tmp_path / "many")
    assert len(load_samples(tmp_path / "one")) == 2
    assert len(load_samples(tmp_path / "many")) == 3
    assert len(load_samples(tmp_path / "many", "train")) == 6


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
    monkeypatch.setattr(datasets, "load_dataset", lambda name: DatasetDict(train=pictures(4), test=pictures(2)))
    samples = load_samples("someone/pictures")
    assert (len(samples), samples.source) == (2, "someone/pictures (split test)")


# Columns


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
        load_samples(data.remove_columns("picture").add_column("more", [b"x"]))


def test_two_image_columns_are_ambiguous() -> None:
    data = pictures(2).add_column("mask", [encoded(0)] * 2).cast_column("mask", Image())
    with pytest.raises(DataError) as caught:
        load_samples(data)
    assert "'image', 'mask'" in one_line(caught)
    assert "remove_columns" in one_line(caught)


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
    assert samples.labels().tolist() == [1, MISSING, MISSING]
    assert torch.nn.CrossEntropyLoss().ignore_index == MISSING
    with pytest.raises(DataError, match="2 of 3 samples have no label, the first in row 1"):
        samples.require_labels()


# Samples


def test_take_is_a_reproducible_subset_without_replacement() -> None:
    samples = load_samples(pictures(20))
    some = values(samples.take(8, seed=3))
    assert some == values(samples.take(8, seed=3))
    assert len(set(some)) == 8
    assert some != values(samples.take(8, seed=4))
    assert some[:5] == values(samples.take(5, seed=3))
    assert values(samples.take(None, 0)) == values(samples.take(20, 0)) == values(samples)
    taken = samples.take(8, seed=3)
    assert [10 * row for row in taken.rows] == some
    assert [10 * row for row in taken.take(2, seed=0).rows] == values(taken.take(2, seed=0))
    assert taken.labels().tolist() == [row % 3 for row in taken.rows]
    with pytest.raises(DataError, match="cannot take 0"):
        samples.take(0, 0)


def test_batches_run_a_model_in_order() -> None:
    config = ViTConfig(image_size=4, patch_size=2, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    config.intermediate_size, config.num_labels = 8, 3
    samples = load_samples(pictures(5))
    batches = list(samples.batches(image_preparer(load_processor(None, config), 3), 2))
    assert [len(batch["labels"]) for batch in batches] == [2, 2, 1]
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == [0, 1, 2, 0, 1]
    pixels = torch.cat([batch["pixel_values"] for batch in batches])[:, 0, 0, 0]
    torch.testing.assert_close(pixels, torch.arange(5) * 10 / 255 * 2 - 1, atol=1e-6, rtol=0)
    assert ViTForImageClassification(config)(**batches[0]).loss.isfinite()


def test_batches_are_lazy() -> None:
    broken = Dataset.from_dict({"image": [encoded(1), b"broken"]})
    ones = torch.ones(1, 3, 4, 4)
    batches = load_samples(broken).batches(image_preparer(lambda images, return_tensors: {"pixel_values": ones}, 3), 1)
    assert next(batches)["pixel_values"] is ones
    with pytest.raises(DataError, match="row 1 "):
        next(batches)


def test_prepared_batches_come_again() -> None:
    config = ViTConfig(image_size=4, patch_size=2, num_channels=3)
    samples = load_samples(pictures(5))
    prepared = samples.prepared(image_preparer(load_processor(None, config), 3), 2)
    assert len(prepared) == 3
    for _ in range(2):
        assert [batch["labels"].tolist() for batch in prepared] == [[0, 1], [2, 0], [1]]
    torch.testing.assert_close(prepared[-1]["pixel_values"], prepared[2]["pixel_values"], atol=0, rtol=0)
    assert len(prepared[1:]) == 2
    with pytest.raises(IndexError):
        prepared[3]


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    samples = load_samples(pictures())
    pictures().to_parquet(tmp_path / "a.parquet")
    strings = Dataset.from_dict({"label": [NAMES[k % 3] for k in range(6)], "image": pictures()["image"][:]})
    same = [load_samples(tmp_path / "a.parquet"), load_samples(strings), samples.take(6, 0)]
    assert {other.fingerprint() for other in same} == {samples.fingerprint()}
    relabelled = pictures().remove_columns("label").add_column("label", [0] * 6)
    different = [samples.take(5, 0), samples.take(5, 1), load_samples(relabelled), load_samples(pictures(mode="L"))]
    assert len({other.fingerprint() for other in [samples, *different]}) == 5


def test_fingerprint_reads_the_files_that_are_only_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", 1)
    samples = load_samples(tmp_path)
    before = samples.fingerprint()
    write_image(tmp_path / "a.png", 2)
    assert samples.fingerprint() != before


# Labels of a model


def test_alignment_by_name_ignores_case_and_order() -> None:
    samples = load_samples(pictures(4))
    aligned = samples.aligned_to({0: "Owl", 1: "ant", 2: "CAT", 3: "dog"})
    assert aligned.labels().tolist() == [2, 3, 0, 2]
    assert aligned.take(2, 0).labels().tolist() == [[2, 3, 0, 2][row] for row in aligned.take(2, 0).rows]
    assert aligned.aligned_to({0: "cat", 1: "dog", 2: "owl"}).labels().tolist() == [0, 1, 2, 0]
    assert aligned.fingerprint() == samples.fingerprint()


def test_alignment_of_strings() -> None:
    samples = load_samples(Dataset.from_dict({"text": list("abc"), "label": ["owl", "cat", "owl"]}))
    assert samples.aligned_to({0: "dog", 1: "owl", 2: "cat"}).labels().tolist() == [1, 2, 1]
    assert samples.aligned_to({0: "LABEL_0", 1: "LABEL_1"}).labels().tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="which is which"):
        samples.aligned_to({index: f"LABEL_{index}" for index in range(3)})


def test_alignment_names_what_does_not_match() -> None:
    with pytest.raises(DataError) as caught:
        load_samples(pictures()).aligned_to({0: "cat", 1: "wolf", 2: "owl"})
    assert "'dog' cannot be matched" in one_line(caught)
    assert "'wolf'" in one_line(caught)
    with pytest.raises(DataError, match="'cat' cannot be matched"):  # the model has two
        load_samples(pictures()).aligned_to({0: "cat", 1: "cat", 2: "owl", 3: "dog"})


def test_alignment_keeps_ids_in_range_where_a_side_has_no_names() -> None:
    unnamed = {index: f"LABEL_{index}" for index in range(3)}
    assert load_samples(pictures(4)).aligned_to(unnamed).labels().tolist() == [0, 1, 2, 0]
    numbers = load_samples(Dataset.from_dict({"text": ["a", "b"], "label": [0, 2]}))
    assert numbers.aligned_to({0: "x", 1: "y", 2: "z"}).labels().tolist() == [0, 2]
    with pytest.raises(DataError, match=r"label 2 in row 1 \(from 0\), but the model has 2 classes"):
        numbers.aligned_to({0: "x", 1: "y"})
    with pytest.raises(DataError, match="label 2 in row 2"):
        load_samples(pictures(4)).aligned_to({0: "LABEL_0", 1: "LABEL_1"})


def test_classes_that_are_numbers_are_ids(tmp_path: Path) -> None:
    for index in range(11):
        write_image(tmp_path / str(index) / "x.png", index)
    samples = load_samples(tmp_path)
    assert samples.names is not None
    assert samples.names[2] == "10"
    aligned = samples.aligned_to({index: f"LABEL_{index}" for index in range(11)})
    assert aligned.labels().tolist() == values(aligned)


# Images


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_mode_are_given_the_channels_of_the_model(mode: str, channels: int) -> None:
    config = ViTConfig(image_size=8, num_channels=channels)
    prepare = image_preparer(load_processor(None, config), channels)
    pixels = prepare([picture(255, mode), picture(0, mode, size=5)])["pixel_values"]
    assert (pixels.shape, pixels.dtype) == ((2, channels, 8, 8), torch.float32)
    assert (pixels[0] == 1).all()
    assert (pixels[1] == -1).all()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    prepare = image_preparer(load_processor(None, ViTConfig(image_size=2, num_channels=1)), 1)
    pixels = prepare([PIL.Image.fromarray(np.full((2, 2), 128 * 256, np.uint16))])["pixel_values"]
    torch.testing.assert_close(pixels, torch.full((1, 1, 2, 2), 128 / 255 * 2 - 1))
    with pytest.raises(DataError, match="'F' pixels"):
        prepare([PIL.Image.new("F", (2, 2))])


def test_the_checkpoints_own_processor_is_used(tmp_path: Path, lookups: list[str]) -> None:
    config = ViTConfig(image_size=8)
    path = tmp_path / "preprocessor_config.json"
    settings = {"image_processor_type": "ViTImageProcessor", "do_resize": False, "image_mean": [0.0] * 3}
    path.write_text(json.dumps({**settings, "image_std": [0.5] * 3}))
    prepare = image_preparer(load_processor(tmp_path, config), 3)
    assert (prepare([picture(255)])["pixel_values"] == torch.full((1, 3, 4, 4), 2.0)).all()
    with pytest.raises(DataError) as caught:
        prepare([picture(0), picture(0, size=5)])
    assert "4x4, 5x5" in one_line(caught)
    with pytest.raises(DataError, match="cannot prepare L images"):
        image_preparer(load_processor(tmp_path, config), 1)([picture(0)])
    path.write_text("{broken")
    with pytest.raises(CheckpointError) as unreadable:
        load_processor(tmp_path, config)
    assert str(tmp_path) in one_line(unreadable)
    assert lookups == []


def test_what_no_preparer_can_do() -> None:
    with pytest.raises(DataError, match="a model of 2 channels"):
        image_preparer(None, 2)
    with pytest.raises(DataError, match="makes 3 channels, the model takes 1"):
        image_preparer(lambda images, return_tensors: {"pixel_values": torch.ones(1, 3, 2, 2)}, 1)([picture(0)])


# Errors


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
    monkeypatch.setattr(datasets, "load_dataset", lambda name: pictures(2))
    assert len(load_samples("someone/my-pictures")) == 2

    def broken(name: str) -> None:
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
    with pytest.raises(DataError, match=r"several kinds \(\.csv, \.jsonl\)"):
        load_samples(tmp_path)
    (tmp_path / "b.jsonl").unlink()
    write_image(tmp_path / "c.png", 0)
    with pytest.raises(DataError, match=r"several kinds \(\.csv, \.png\)"):
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


def test_no_image_text_or_label() -> None:
    numbers = load_samples(Dataset.from_dict({"n": [1, 2]}))
    with pytest.raises(DataError, match="no image column among 'n'"):
        numbers.require_images()
    with pytest.raises(DataError, match="no text column among 'n'"):
        numbers.require_texts()
    with pytest.raises(DataError, match="no class label among 'n'"):
        numbers.require_labels()
    with pytest.raises(DataError, match="no class label among 'n'"):
        numbers.aligned_to({0: "a"})
    with pytest.raises(DataError, match="no image and no text"):
        next(numbers.batches(lambda inputs: {}, 1))


def test_requirements_choose_what_batches_hold() -> None:
    both = load_samples(pictures(2).add_column("text", ["a", "b"]))
    assert values(both.require_images()) == [0, 10]
    assert both.require_texts().inputs(range(2)) == ["a", "b"]


def test_corrupt_image_names_row_and_file(tmp_path: Path) -> None:
    for name in "abcd":
        write_image(tmp_path / f"{name}.png", 1)
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    samples = load_samples(tmp_path)
    with pytest.raises(DataError) as caught:
        samples.inputs(range(0, 4))
    assert "row 2 " in one_line(caught)
    assert "c.png" in one_line(caught)
    shuffled = samples.take(3, 0)
    assert 2 in shuffled.rows
    with pytest.raises(DataError, match=r"row 2 .*c\.png"):
        shuffled.inputs(range(3))


def test_images_that_are_not_there(tmp_path: Path, lookups: list[str]) -> None:
    elsewhere = Dataset.from_dict({"image": [{"bytes": None, "path": "https://example.org/a.png"}, None]})
    samples = load_samples(elsewhere.cast(Features({"image": Image()})))
    with pytest.raises(DataError, match="not stored with the data"):
        samples.inputs([0])
    with pytest.raises(DataError, match=r"row 1 .*there is none"):
        samples.inputs(range(1, 2))
    (tmp_path / "a.csv").write_text("file_name\nmissing.png\n")
    with pytest.raises(DataError, match=r"row 0 .*missing\.png, which is not there"):
        load_samples(tmp_path)
    assert lookups == []


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


def test_a_label_beyond_all_numbers_of_classes(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(f"text,label\na,1\nb,{2**63}\n")
    with pytest.raises(DataError, match="label 9223372036854775808 is too large"):
        load_samples(tmp_path / "rows.csv").labels()
