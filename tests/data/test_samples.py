"""Samples: a subset, and batches that a model can run on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from pictures import encoded, pictures, processor_of, values
from transformers import ViTConfig, ViTForImageClassification

from transfuse.data.image.images import image_preparer
from transfuse.data.load import load_samples
from transfuse.errors import DataError


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


def test_all_samples_are_shuffled_too() -> None:
    samples = load_samples(pictures(20))
    assert values(samples.shuffled(3)) == values(samples.shuffled(3, 20)) == values(samples.shuffled(3, 30))
    assert values(samples.shuffled(3))[:8] == values(samples.take(8, seed=3))
    assert values(samples) != values(samples.shuffled(3)) != values(samples.shuffled(4))
    assert sorted(values(samples.shuffled(3))) == values(samples)
    with pytest.raises(DataError, match="cannot take 0"):
        samples.shuffled(0, 0)


def test_batches_run_a_model_in_order() -> None:
    config = ViTConfig(image_size=4, patch_size=2, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    config.intermediate_size, config.num_labels = 8, 3
    samples = load_samples(pictures(5))
    batches = list(samples.batches(image_preparer(processor_of(config), 3), 2))
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
    prepared = samples.lazy_batches(image_preparer(processor_of(config), 3), 2)
    assert len(prepared) == 3
    for _ in range(2):
        assert [batch["labels"].tolist() for batch in prepared] == [[0, 1], [2, 0], [1]]
    torch.testing.assert_close(prepared[-1]["pixel_values"], prepared[2]["pixel_values"], atol=0, rtol=0)
    assert len(prepared[1:]) == 2
    with pytest.raises(IndexError):
        prepared[3]


def test_blank_texts_are_left_out_and_a_note_says_so() -> None:
    texts = load_samples({"text": ["a", None, "b", " ", ""], "label": [0, 1, 2, 0, 1]})
    read = texts.require_texts()
    assert read.inputs(range(2)) == ["a", "b"]
    assert read.labels().tolist() == [0, 2]
    assert list(read.rows) == [0, 2]
    assert read.require_texts().notes == read.notes == (f"{texts.name}: 3 of 5 texts are empty and left out",)
    pairs = load_samples({"premise": ["a", None, None], "hypothesis": [None, "b", None]}).require_texts()
    assert pairs.inputs(range(2)) == [["a", ""], ["", "b"]]
    with pytest.raises(DataError, match="all texts of column 'text' are empty"):
        load_samples({"text": [None, " "]}).require_texts()
    with pytest.raises(DataError, match="all values of 'text' are empty, and no other column holds texts"):
        load_samples({"text": [None, None], "label": [0, 1]}).require_texts()


def said(*contents: str | None) -> list[dict[str, str | None]]:
    return [{"role": role, "content": content} for role, content in zip(("user", "assistant"), contents, strict=True)]


@pytest.mark.parametrize(
    "columns",
    [
        {"premise": ["a", None, " ", "a"], "hypothesis": [None, "b", None, "b"]},
        {"instruction": ["a", None, " ", "a"], "output": [None, "b", None, "b"]},
        {"messages": [said("a", None), said(" ", "b"), said("", None), said("a", "b")]},
        {"conversations": [[{"from": "human", "value": text}] for text in ("a", "b", " ", "c")]},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_samples_of_several_parts_are_left_out_if_all_parts_are_blank(columns: dict[str, list[Any]]) -> None:
    samples = load_samples(columns)
    read = samples.require_texts()
    assert list(read.rows) == [0, 1, 3]
    left_out = f"{samples.name}: 1 of 4 texts is empty and left out"
    half = f"{samples.name}: 2 samples have an empty part, which stays empty"
    assert read.notes == ((left_out,) if "conversations" in columns else (left_out, half))
    assert read.require_texts().notes == read.notes


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("a text")
    monkeypatch.chdir(tmp_path)
    assert len(load_samples(".")) == 1
    with pytest.raises(DataError, match=r"^data: the name is empty; give a path"):
        load_samples("")
