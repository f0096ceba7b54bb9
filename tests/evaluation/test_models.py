"""Models are compared without labels only where they read the same inputs, and by the names of their classes."""

from pathlib import Path

import pytest
import torch
from cli_inputs import vit
from kinds import NAMES, SENTENCES, WORDS, bert, classes, text, tokenizer
from pictures import picture
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertTokenizer,
    PreTrainedModel,
    ViTImageProcessorPil,
)

import transfuse
from transfuse.base.progress import Silent
from transfuse.errors import ConfigError, DataError

TEXTS = [text(*sentence) for sentence in SENTENCES[:12]]


def in_two_orders(folder: Path, build: type[PreTrainedModel]) -> tuple[Path, PreTrainedModel]:
    """Models `folder / "a"` and `folder / "b"` that are alike, but whose classes have another order."""
    first = bert(folder / "a", build, 1, **classes(NAMES))
    order = [2, 0, 1]
    other = build.from_pretrained(first)
    with torch.no_grad():
        for parameter in other.classifier.parameters():
            parameter.copy_(parameter[order])
    other.config.update(classes([NAMES[row] for row in order]))
    other.save_pretrained(folder / "b")
    tokenizer().save_pretrained(folder / "b")
    return first, other


@pytest.mark.parametrize("build", [BertForSequenceClassification, BertForTokenClassification])
def test_numbers_as_labels_are_classes_of_the_first_model(
    tmp_path: Path, build: type[PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = in_two_orders(tmp_path, build)
    rows = [{"text": text, "label": row % 3} for row, text in enumerate(TEXTS)]
    if build is BertForTokenClassification:
        rows = [{"tokens": text.split(), "tags": [row % 3] * len(text.split())} for row, text in enumerate(TEXTS)]
    progress, told = told_by(monkeypatch)
    own = other.config
    for compared in (tmp_path / "b", other):
        here, there = transfuse.evaluate([first, compared], rows, processor=tokenizer(), progress=progress).records()
        assert there["loss"] == pytest.approx(here["loss"])
        assert there["classes"] == here["classes"]
    assert ["id2label names" in line for line in told] == [True, True]
    assert other.config is own
    assert not other._forward_hooks  # a loaded model predicts as before


def test_classes_in_another_order_are_compared_by_name(tmp_path: Path) -> None:
    first, other = in_two_orders(tmp_path, BertForSequenceClassification)
    for compared in (tmp_path / "b", other):
        record = transfuse.evaluate([first, compared], TEXTS).records()[0]
        assert record["agreement_with"][0]["agreement"] == 1
    assert not other._forward_hooks  # a loaded model predicts as before


def told_by(monkeypatch: pytest.MonkeyPatch) -> tuple[Silent, list[str]]:
    """A progress, and the lines that it is told."""
    told: list[str] = []
    progress = Silent()
    monkeypatch.setattr(progress, "warn", told.append)
    return progress, told


@pytest.mark.parametrize("build", [BertForSequenceClassification, BertForTokenClassification])
def test_other_classes_are_not_compared_without_labels(tmp_path: Path, build: type[PreTrainedModel]) -> None:
    a = bert(tmp_path / "a", build, 1, **classes(NAMES))
    b = bert(tmp_path / "b", build, 2, **classes(("x", "anna", "bert")))
    with pytest.raises(ConfigError, match=r"b: class 0 in id2label is 'x', that of .*a is 'anna'; without labels"):
        transfuse.evaluate([a, b], TEXTS)
    transfuse.evaluate([a, bert(tmp_path / "c", build, 2, num_labels=3)], TEXTS)  # without names
    transfuse.evaluate([a, bert(tmp_path / "d", build, 2, **classes(("Anna", "BERT", "carl")))], TEXTS)


def test_numbers_as_labels_of_other_classes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress, told = told_by(monkeypatch)
    a = bert(tmp_path / "a", BertForSequenceClassification, 1, **classes(NAMES))
    b = bert(tmp_path / "b", BertForSequenceClassification, 2, **classes(("dora", "carl", "anna", "bert")))
    more = bert(tmp_path / "c", BertForSequenceClassification, 2, **classes((*NAMES, "dora")))
    numbers = [{"text": text, "label": row % 3} for row, text in enumerate(TEXTS)]
    names = [{"text": text, "label": NAMES[row % 3]} for row, text in enumerate(TEXTS)]
    transfuse.evaluate([a, b], names, progress=progress)
    transfuse.evaluate([a, more], numbers, progress=progress)
    assert told == []
    transfuse.evaluate([a, b], numbers, progress=progress)
    assert told == [
        f"{b}: class 0 in id2label is 'dora', that of {a} is 'anna'; the labels are numbers, which each model takes as"
        " its own classes; give the names of classes as labels"
    ]
    told.clear()
    a = bert(tmp_path / "d", BertForSequenceClassification, 1, **classes(("7", "8")))
    b = bert(tmp_path / "e", BertForSequenceClassification, 2, **classes(("8", "9", "7")))
    transfuse.evaluate([a, b], [row | {"label": 7 + row["label"] // 2} for row in numbers], progress=progress)
    assert told == []


@pytest.mark.parametrize("as_ids", [True, False])
def test_sets_of_numbers_of_other_classes_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_ids: bool
) -> None:
    progress, told = told_by(monkeypatch)
    problem = {"problem_type": "multi_label_classification"}
    a = bert(tmp_path / "a", BertForSequenceClassification, 1, **classes(NAMES), **problem)
    b = bert(tmp_path / "b", BertForSequenceClassification, 2, **classes(("x", "y", "anna")), **problem)
    named = [{"text": text, **dict.fromkeys((*NAMES, "x", "y"), row % 2)} for row, text in enumerate(TEXTS)]
    rows = [{"text": text, "labels": [row % 3]} for row, text in enumerate(TEXTS)] if as_ids else named
    transfuse.evaluate([a, b], rows, progress=progress)
    assert ["which each model takes as its own classes" in line for line in told] == [True] * as_ids


@pytest.mark.parametrize("build", [BertForSequenceClassification, BertForTokenClassification])
def test_names_in_lists_are_numbered_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: type[PreTrainedModel]
) -> None:
    progress, told = told_by(monkeypatch)
    kind = {"problem_type": "multi_label_classification"} if build is BertForSequenceClassification else {}
    rows = [{"text": line if kind else line.split(), "labels": ["O", "B-X", "I-X", "O", "O"]} for line in TEXTS]
    named = bert(tmp_path / "a", build, 1, **classes(("o", "B-X", "I-X")), **kind)
    transfuse.evaluate(named, rows, progress=progress)
    assert told == []
    transfuse.evaluate(bert(tmp_path / "b", build, 1, num_labels=3, **kind), rows, progress=progress)
    (line,) = told
    assert line.endswith("so the classes are taken in alphabetical order, from 'B-X' as 0 to 'O' as 2")
    more = bert(tmp_path / "c", build, 1, num_labels=4, **kind)
    with pytest.raises(DataError, match="3 class names, and 4 classes without names"):
        transfuse.evaluate(more, rows)


def test_tokenizers_that_number_tokens_differently_are_refused(tmp_path: Path) -> None:
    a, b = (bert(tmp_path / name, BertForSequenceClassification, 1) for name in "ab")
    turned = [*WORDS[:5], *reversed(WORDS[5:])]
    BertTokenizer(vocab={word: index for index, word in enumerate(turned)}).save_pretrained(b)
    with pytest.raises(ConfigError, match=r"b: the settings of its tokenizer differ from those of .*a; without labels"):
        transfuse.evaluate([a, b], TEXTS)
    transfuse.evaluate([a, b], TEXTS, processor=tokenizer())


def test_image_processors_of_other_pixels_are_refused(tmp_path: Path) -> None:
    a, b = (vit(tmp_path / name, 1) for name in "ab")
    images = [picture(20 * value, "L", 8) for value in range(5)]
    transfuse.evaluate([a, b], images)
    size = {"height": 8, "width": 8}
    ViTImageProcessorPil(size=size, image_mean=[0.1], image_std=[0.5]).save_pretrained(b)
    with pytest.raises(ConfigError, match="b: the settings of its image processor differ"):
        transfuse.evaluate([a, b], images)


def test_models_that_predict_something_else_are_refused(tmp_path: Path) -> None:
    labeled = {"text": TEXTS, "label": [row % 3 for row in range(len(TEXTS))]}
    a = bert(tmp_path / "a", BertForSequenceClassification, 1, **classes(NAMES))
    b = bert(tmp_path / "b", BertForMaskedLM, 1)
    with pytest.raises(ConfigError, match=r"b: predicts something else than .*a; measure each alone"):
        transfuse.evaluate([a, b], labeled)


def test_causal_and_masked_models_have_no_differences(tmp_path: Path) -> None:
    a = bert(tmp_path / "a", BertForMaskedLM, 1)
    b = bert(tmp_path / "b", BertLMHeadModel, 1, is_decoder=True)
    assert not transfuse.evaluate([a, b], TEXTS).against
    assert transfuse.evaluate([a, bert(tmp_path / "c", BertForMaskedLM, 2)], TEXTS).against
