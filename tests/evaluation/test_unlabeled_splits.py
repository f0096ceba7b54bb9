"""A split without labels, such as the test split of GLUE, is passed over if no split was asked for."""

from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import T5
from datasets import Dataset, DatasetDict, Features, List, Value
from kept_warnings import KeptWarnings
from kinds import NAMES, SENTENCES, THINGS, WORDS, bert, classes, jsonl, text, tokenizer
from transformers import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    T5Config,
    T5ForConditionalGeneration,
)  # fmt: skip

import transfuse
from transfuse.errors import DataError, TransfuseError

SETS = {"problem_type": "multi_label_classification", **classes((*NAMES, *THINGS))}


def test_the_next_split_is_measured_if_no_sample_has_a_label(tmp_path: Path) -> None:
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **classes(NAMES))
    (tmp_path / "data").mkdir()
    for split in ("train", "validation", "test"):
        rows = [{"text": text(*each), "label": -1 if split == "test" else NAMES.index(each[0])} for each in SENTENCES]
        jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    (record,) = transfuse.evaluate(model, tmp_path / "data").records()
    assert record["split"] == "validation"
    with pytest.raises(DataError, match="24 of 24 samples have no label"):
        transfuse.evaluate(model, tmp_path / "data", split="test")
    (tmp_path / "data" / "validation.jsonl").unlink()
    (record,) = transfuse.evaluate(model, tmp_path / "data").records()
    assert record["split"] == "train"
    (tmp_path / "data" / "train.jsonl").unlink()
    with pytest.raises(DataError, match="24 of 24 samples have no label"):
        transfuse.evaluate(model, tmp_path / "data")


@pytest.mark.parametrize(
    ("options", "unlabeled"),
    [
        ({"num_labels": 1}, {"label": -1.0}),
        ({"num_labels": 1}, {"score": -1.0}),
        ({"num_labels": 1}, {"score": None}),
        (classes(NAMES), {"label": -1.0}),
        (classes(NAMES), {"label": None}),
        (classes(NAMES), {}),
    ],
    ids=str,
)
def test_splits_whose_labels_are_missing(
    tmp_path: Path, options: dict[str, Any], unlabeled: dict[str, float | None]
) -> None:
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **options)
    (tmp_path / "data").mkdir()
    column = next(iter(unlabeled), "label")
    for split in ("train", "validation"):
        rows = [{"text": text(*each), column: float(NAMES.index(each[0]))} for each in SENTENCES]
        jsonl(tmp_path / "data" / f"{split}.jsonl", rows)
    jsonl(tmp_path / "data" / "test.jsonl", [{"text": text(*each), **unlabeled} for each in SENTENCES])
    (record,) = transfuse.evaluate(model, tmp_path / "data").records()
    assert (record["split"], "loss" in record) == ("validation", True)


def test_a_split_without_labels_is_read_as_before_if_no_other_has_any(tmp_path: Path) -> None:
    models = [bert(tmp_path / f"{seed}", BertForSequenceClassification, seed, **classes(NAMES)) for seed in range(2)]
    for split in ("train", "test"):
        (tmp_path / "data").mkdir(exist_ok=True)
        jsonl(tmp_path / "data" / f"{split}.jsonl", [{"text": text(*each)} for each in SENTENCES])
    assert {record["split"] for record in transfuse.evaluate(models, tmp_path / "data").records()} == {"test"}
    model = bert(tmp_path / "numbers", BertForSequenceClassification, 0, num_labels=1)
    for split in ("train", "test"):
        jsonl(tmp_path / "data" / f"{split}.jsonl", [{"text": text(*each), "label": -1.0} for each in SENTENCES])
    assert transfuse.evaluate(model, tmp_path / "data").records()[0]["split"] == "test"


@pytest.mark.parametrize(
    ("options", "column", "kind", "label", "missing"),
    [
        ({"num_labels": 1}, "score", Value("float32"), 0.5, None),
        ({"num_labels": 1}, "score", Value("float32"), 0.5, nan),
        (SETS, "tags", List(Value("string")), [NAMES[0]], None),
    ],
    ids=["numbers", "not numbers", "sets"],
)
def test_splits_of_typed_columns_that_are_empty(
    tmp_path: Path, options: dict[str, Any], column: str, kind: Any, label: Any, missing: float | None
) -> None:
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **options)
    features = Features({"text": Value("string"), column: kind})
    data = DatasetDict()
    for split, value in {"test": missing, "validation": label}.items():
        data[split] = Dataset.from_list([{"text": text(*each), column: value} for each in SENTENCES], features=features)
    (record,) = transfuse.evaluate(model, data).records()
    assert (record["split"], "loss" in record) == ("validation", True)


@pytest.mark.parametrize("options", [{"num_labels": 1}, classes(NAMES)], ids=["numbers", "classes"])
def test_an_empty_column_of_a_table(tmp_path: Path, options: dict[str, Any]) -> None:
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **options)
    (tmp_path / "data").mkdir()
    for split, labels in {"train": "012", "validation": "120", "test": ["", "", ""]}.items():
        rows = [f"{name} sees boats,{label}\n" for name, label in zip(NAMES, labels, strict=True)]
        (tmp_path / "data" / f"{split}.csv").write_text("".join(["text,label\n", *rows]))
    (record,) = transfuse.evaluate(model, tmp_path / "data").records()
    assert (record["split"], "loss" in record) == ("validation", True)


@pytest.mark.parametrize(
    ("options", "labels", "missing"),
    [
        (classes(NAMES), [name for name, _, _ in SENTENCES], None),
        (classes(NAMES), [NAMES.index(name) for name, _, _ in SENTENCES], -1),
        (classes(NAMES), [float(NAMES.index(name)) for name, _, _ in SENTENCES], None),
        ({"num_labels": 1}, [row / 7 for row in range(len(SENTENCES))], None),
        ({"num_labels": 1}, [row / 7 for row in range(len(SENTENCES))], nan),
        (SETS, [[name, thing] for name, thing, _ in SENTENCES], None),
        (classes(NAMES), [name for name, _, _ in SENTENCES], ""),
    ],
    ids=["names", "ids", "fractions", "numbers", "not a number", "sets", "empty texts"],
)
def test_single_rows_without_a_label_are_left_out(
    tmp_path: Path, options: dict[str, Any], labels: list[Any], missing: float | str | None
) -> None:
    """They are told about when models are measured, and refused in training."""
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **options)
    rows = [{"text": text(*each), "label": label} for each, label in zip(SENTENCES, labels, strict=True)]
    partly = [rows[0], rows[1] | {"label": missing}, *rows[2:]]
    heard = KeptWarnings()
    (found,) = transfuse.evaluate(model, partly, progress=heard).records()
    (expected,) = transfuse.evaluate(model, [rows[0], *rows[2:]]).records()
    assert found["samples"] == expected["samples"]
    assert found["loss"] == expected["loss"]
    assert any("1 of 24 samples has no label and is left out" in line for line in heard.lines)
    with pytest.raises(TransfuseError, match="1 of 24 samples has no label, the first in row 1"):
        transfuse.finetune(model, partly)


def test_rows_whose_columns_of_classes_are_all_empty_are_left_out(tmp_path: Path) -> None:
    """A row with some empty cells is refused, and training refuses both."""
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **SETS)
    names = (*NAMES, *THINGS)
    rows = [{"text": text(*each)} | {name: int(name in each) for name in names} for each in SENTENCES]
    partly = [rows[0], rows[1] | dict.fromkeys(names), *rows[2:]]
    heard = KeptWarnings()
    (found,) = transfuse.evaluate(model, partly, progress=heard).records()
    (expected,) = transfuse.evaluate(model, [rows[0], *rows[2:]]).records()
    assert (found["samples"], found["loss"]) == (expected["samples"], expected["loss"])
    assert any("1 of 24 samples has no label and is left out" in line for line in heard.lines)
    with pytest.raises(TransfuseError, match=r"row 1 .* has nothing in column"):
        transfuse.finetune(model, partly)
    with pytest.raises(TransfuseError, match=r"row 1 .* has nothing in column"):
        transfuse.evaluate(model, [rows[0], rows[1] | {names[0]: None}, *rows[2:]])


@pytest.mark.parametrize(
    ("kind", "missing"), [("int64", None), ("int64", -1), ("float32", nan), ("float32", -1.0), ("null", None)]
)
def test_a_split_whose_columns_of_classes_are_all_empty(tmp_path: Path, kind: str, missing: float | None) -> None:
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **SETS)
    names = (*NAMES, *THINGS)
    data = DatasetDict()
    for split in ("test", "validation"):
        rows = [
            {"text": text(*each)} | {name: int(name in each) if split == "validation" else missing for name in names}
            for each in SENTENCES
        ]
        features = {name: Value(kind if split == "test" else "int64") for name in names}
        data[split] = Dataset.from_list(rows, features=Features({"text": Value("string"), **features}))
    (record,) = transfuse.evaluate(model, data).records()
    assert (record["split"], "loss" in record) == ("validation", True)


def test_rows_with_an_empty_list_of_tags_are_left_out(tmp_path: Path) -> None:
    model = bert(tmp_path / "model", BertForTokenClassification, 0, **classes(["O", "NAME"]))
    rows = [{"tokens": text(*each).split(), "ner_tags": ["NAME", "O", "O", "O", "O"]} for each in SENTENCES]
    partly = [rows[0], rows[1] | {"ner_tags": []}, *rows[2:]]
    heard = KeptWarnings()
    (found,) = transfuse.evaluate(model, partly, progress=heard).records()
    (expected,) = transfuse.evaluate(model, [rows[0], *rows[2:]]).records()
    assert (found["samples"], found["loss"]) == (expected["samples"], expected["loss"])
    assert any("1 of 24 samples has no label and is left out" in line for line in heard.lines)


@pytest.mark.parametrize("missing", [-1, None])
def test_a_split_whose_tags_are_all_missing(tmp_path: Path, missing: int | None) -> None:
    model = bert(tmp_path / "model", BertForTokenClassification, 0, **classes(["O", "NAME"]))
    features = Features({"tokens": List(Value("string")), "ner_tags": List(Value("int64"))})
    data = DatasetDict()
    for split, tag in {"test": missing, "validation": 1}.items():
        rows = [{"tokens": text(*each).split(), "ner_tags": [tag] * 5} for each in SENTENCES]
        data[split] = Dataset.from_list(rows, features=features)
    (record,) = transfuse.evaluate(model, data).records()
    assert (record["split"], "loss" in record) == ("validation", True)


@pytest.mark.parametrize("unread", ["tags", "class"])
def test_other_columns_decide_nothing(tmp_path: Path, unread: str) -> None:
    """Neither for classes that have a column each, nor for numbers beside a text that is called like a label."""
    model = bert(tmp_path / "model", BertForSequenceClassification, 0, **SETS)
    rows = [{"text": text(*each)} | {name: int(name in each) for name in (*NAMES, *THINGS)} for each in SENTENCES]
    partly = [row | {unread: None if index < 20 else "seen"} for index, row in enumerate(rows)]
    heard = KeptWarnings()
    (found,) = transfuse.evaluate(model, partly, progress=heard).records()
    assert (found["samples"], heard.lines) == (24, [])
    model = bert(tmp_path / "numbers", BertForSequenceClassification, 0, num_labels=1)
    rows = [{"text": text(*each), "label": "seen", "score": row / 7} for row, each in enumerate(SENTENCES)]
    rows[3]["score"], rows[4]["label"] = None, None
    (found,) = transfuse.evaluate(model, rows).records()
    assert found["samples"] == 23


QUESTIONS = [
    {"question": f"what sees {name}", "context": text(name, thing, place), "answers": thing}
    for name, thing, place in SENTENCES
]
TRANSLATIONS = [{"translation": {"en": text(*each), "de": each[0]}} for each in SENTENCES]
TARGETS = [{"source": text(*each), "target": each[0]} for each in SENTENCES]


def sequence_model(folder: Path) -> Path:
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**{**T5, "vocab_size": len(WORDS)})).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        (QUESTIONS, {"answers": None}),
        (TARGETS, {"target": None}),
        (TRANSLATIONS, {"translation": {"en": "anna sees boats", "de": None}}),
    ],
    ids=["answers", "targets", "translations"],
)
def test_rows_without_an_answer_or_a_target_are_left_out(
    rows: list[dict[str, Any]], missing: dict[str, Any], tmp_path: Path
) -> None:
    build = BertForQuestionAnswering if rows is QUESTIONS else None
    model = bert(tmp_path / "model", build, 0) if build else sequence_model(tmp_path / "model")
    partly = [rows[0], rows[1] | missing, *rows[2:]]
    heard = KeptWarnings()
    (found,) = transfuse.evaluate(model, partly, progress=heard).records()
    (expected,) = transfuse.evaluate(model, [rows[0], *rows[2:]]).records()
    assert (found["samples"], found["loss"]) == (expected["samples"], expected["loss"])
    assert any("1 of 24 samples has no label and is left out" in line for line in heard.lines)
    with pytest.raises(TransfuseError, match=r"1 of 24 samples has no .*, the first in row 1"):
        transfuse.finetune(model, partly)
    features = Dataset.from_list(rows).features
    data = DatasetDict(
        test=Dataset.from_list([row | missing for row in rows], features=features),
        validation=Dataset.from_list(rows, features=features),
    )
    (record,) = transfuse.evaluate(model, data).records()
    assert (record["split"], "loss" in record) == ("validation", True)
    with pytest.raises(DataError, match="24 of 24 samples have no"):
        transfuse.evaluate(model, data, split="test")


@pytest.mark.parametrize(
    ("options", "labels", "line"),
    [
        (SETS, NAMES[0], "column 'label' holds texts, not lists of classes, so it is not read"),
        (classes(NAMES), [NAMES[0]], "column 'label' holds lists of texts, not classes, so it is not read"),
        ({"num_labels": 1}, NAMES[0], "column 'label' holds texts, not numbers, so it is not read"),
        (classes(NAMES), None, None),
    ],
)
def test_a_line_says_that_labels_are_not_what_the_model_predicts(
    tmp_path: Path, options: dict[str, Any], labels: Any, line: str | None
) -> None:
    models = [bert(tmp_path / name, BertForSequenceClassification, 0, **options) for name in "ab"]
    rows = [{"text": text(*each)} | ({"label": labels} if labels else {}) for each in SENTENCES[:4]]
    heard = KeptWarnings()
    transfuse.evaluate(models, Dataset.from_list(rows), progress=heard)
    assert heard.lines == ([f"dataset in memory: {line}"] if line else [])


def test_a_line_names_a_column_of_the_classes_of_the_model(tmp_path: Path) -> None:
    models = [bert(tmp_path / name, BertForSequenceClassification, 0, **classes(NAMES)) for name in "ab"]
    rows = [{"text": text(*each), "place": each[2], "who": each[0].upper()} for each in SENTENCES[:4]]
    heard = KeptWarnings()
    transfuse.evaluate(models, Dataset.from_list(rows), progress=heard)
    line = "column 'who' holds classes of the model; --label-column reads them"
    assert heard.lines == [f"dataset in memory: {line}"]
