"""Regression and multi-label classification: labels are found, and metrics are those of SciPy and scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from kinds import NAMES, SENTENCES, THINGS, bert, classes, text
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score
from transformers import BertForSequenceClassification, PreTrainedModel

import transfuse
from transfuse.errors import ConfigError, DataError
from transfuse.evaluation.kinds import label_sets

TEXTS = [text(*sentence) for sentence in SENTENCES]
LABELS = (*NAMES, *THINGS)
NUMBERS = [float(row % 5) for row in range(len(TEXTS))]
SETS = [[name, thing] for name, thing, _ in SENTENCES]
MULTI = {"problem_type": "multi_label_classification", **classes(LABELS)}


def logits(folder: Path) -> torch.Tensor:
    from kinds import tokenizer

    model: PreTrainedModel = BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        return model(**tokenizer()(TEXTS, return_tensors="pt", padding=True)).logits


@pytest.mark.parametrize("column", ["label", "score", "stars"])
def test_regression_by_hand(tmp_path: Path, column: str) -> None:
    model = bert(tmp_path / "a", BertForSequenceClassification, 1, num_labels=1)
    numbers = NUMBERS[:12]  # of sentences that differ
    found = transfuse.evaluate(model, Dataset.from_dict({"text": TEXTS[:12], column: numbers}), batch_size=5)
    entry = found.records()[0]
    predicted = logits(model)[:12, 0].numpy()
    assert entry["squared_error"] == pytest.approx(float(np.mean((predicted - numbers) ** 2)), rel=1e-4)
    assert entry["pearson"] == pytest.approx(pearsonr(predicted, numbers).statistic, rel=1e-3)
    assert entry["spearman"] == pytest.approx(spearmanr(predicted, numbers).statistic, rel=1e-3)
    low, high = entry["intervals"]["pearson"]
    assert low < entry["pearson"] < high
    assert entry["intervals"]["loss"] == entry["intervals"]["squared_error"]
    assert "accuracy" not in entry


def test_several_numbers(tmp_path: Path) -> None:
    model = bert(tmp_path / "a", BertForSequenceClassification, 1, num_labels=2, problem_type="regression")
    pairs = [[number, -number] for number in NUMBERS]
    entry = transfuse.evaluate(model, Dataset.from_dict({"text": TEXTS, "label": pairs})).records()[0]
    assert entry["squared_error"] == pytest.approx(
        float((logits(model) - torch.tensor(pairs)).square().mean()), rel=1e-4
    )
    with pytest.raises(DataError, match="1 number in a label, but the model predicts 2"):
        transfuse.evaluate(model, Dataset.from_dict({"text": TEXTS, "label": NUMBERS}))


def layouts() -> dict[str, Dataset]:
    """The same sets as names, as ids, as classes of the data in another order, as indicators, as columns."""
    other = sorted(LABELS)
    ids = [[LABELS.index(name) for name in names] for names in SETS]
    kinds = Features({"text": Value("string"), "tags": List(ClassLabel(names=other))})
    hot = [[float(name in names) for name in LABELS] for names in SETS]
    return {
        "names": Dataset.from_dict({"text": TEXTS, "labels": SETS}),
        "ids": Dataset.from_dict({"text": TEXTS, "labels": ids}),
        "classes": Dataset.from_dict(
            {"text": TEXTS, "tags": [[other.index(n) for n in names] for names in SETS]}, kinds
        ),
        "indicators": Dataset.from_dict({"text": TEXTS, "labels": hot}),
        "whole indicators": Dataset.from_dict({"text": TEXTS, "labels": [[int(v) for v in row] for row in hot]}),
        "columns": Dataset.from_dict(
            {"text": TEXTS, **{f"{name.title()} ": [int(name in names) for names in SETS] for name in LABELS}}
        ),
    }


@pytest.mark.parametrize("layout", layouts())
def test_multi_label_by_hand(tmp_path: Path, layout: str) -> None:
    model = bert(tmp_path / "a", BertForSequenceClassification, 2, **MULTI)
    found = transfuse.evaluate(model, layouts()[layout], batch_size=7)
    entry = found.records()[0]
    expected = np.array([[name in names for name in LABELS] for names in SETS])
    scores = logits(model)
    predicted = (scores > 0).numpy()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.tensor(expected).float())
    assert entry["loss"] == pytest.approx(float(loss), rel=1e-4)
    assert entry["micro_f1"] == pytest.approx(f1_score(expected, predicted, average="micro"))
    assert entry["macro_f1"] == pytest.approx(f1_score(expected, predicted, average="macro"))
    assert entry["accuracy"] == accuracy_score(expected, predicted)
    assert entry["classes"]["boats"]["f1"] == pytest.approx(f1_score(expected[:, 4], predicted[:, 4]))
    assert entry["classes"]["boats"]["support"] == expected[:, 4].sum()


def test_columns_of_classes_are_those_of_every_order(tmp_path: Path) -> None:
    """A model and itself with its classes in another order, and in capitals."""
    model = bert(tmp_path / "a", BertForSequenceClassification, 2, **MULTI)
    turned = BertForSequenceClassification.from_pretrained(model)
    with torch.no_grad():
        for values in (turned.classifier.weight, turned.classifier.bias):
            values.copy_(values.roll(1, 0))
    order = [name.upper() for name in (LABELS[-1], *LABELS[:-1])]
    turned.config.update(classes(order))
    turned.save_pretrained(tmp_path / "b")
    for name in ("columns", "names"):
        one, other = transfuse.evaluate([model, tmp_path / "b"], layouts()[name], processor=model).records()
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert (other["micro_f1"], other["classes"]["boats"]) == (one["micro_f1"], one["classes"]["boats"])


def test_errors_of_small_numbers_are_told_apart(tmp_path: Path) -> None:
    """A mean squared error of 1e-8 is not zero."""
    model = bert(tmp_path / "a", BertForSequenceClassification, 1, num_labels=1)
    other = BertForSequenceClassification.from_pretrained(model)
    with torch.no_grad():
        other.classifier.bias.add_(1e-4)
    data = Dataset.from_dict({"text": TEXTS, "score": logits(model)[:, 0].tolist()})
    found = transfuse.evaluate([str(model), other], data, processor=str(model)).records()[0]
    difference = found["against"][0]["squared_error"]
    assert difference["value"] == pytest.approx(-1e-8, rel=0.1)
    assert difference["p"] < 0.01


def test_a_class_that_the_model_lacks(tmp_path: Path) -> None:
    model = bert(tmp_path / "a", BertForSequenceClassification, 2, **MULTI)
    with pytest.raises(DataError, match="'zebra' cannot be matched to the model's classes"):
        transfuse.evaluate(model, Dataset.from_dict({"text": TEXTS, "labels": [["zebra"]] * len(TEXTS)}))
    with pytest.raises(DataError, match="no column of lists of classes, and no column 'bert'"):
        transfuse.evaluate(model, Dataset.from_dict({"text": TEXTS, "anna": [1] * len(TEXTS)}))


def test_an_empty_entry_of_a_label(tmp_path: Path) -> None:
    several = bert(tmp_path / "a", BertForSequenceClassification, 1, num_labels=2, problem_type="regression")
    sets = bert(tmp_path / "b", BertForSequenceClassification, 2, **MULTI)
    hot = [[1.0, *[0.0] * (len(LABELS) - 2), None], *[[0.0] * len(LABELS)] * (len(TEXTS) - 1)]
    for model, first, others in (
        (several, [1.0, None], [1.0, 2.0]),
        (sets, ["anna", None], ["anna"]),
        (sets, [0, None], [1]),
    ):
        labels = [others, first, *[others] * (len(TEXTS) - 2)]
        with pytest.raises(DataError, match=r"row 1 \(from 0\) has an empty entry in labels; fill it in or remove"):
            transfuse.evaluate(model, {"text": TEXTS, "labels": labels})
    with pytest.raises(DataError, match=r"row 0 \(from 0\) has an empty entry in labels"):
        transfuse.evaluate(sets, {"text": TEXTS, "labels": hot})
    columns: dict[str, list[Any]] = {name: [1] * len(TEXTS) for name in LABELS}
    columns["boats"] = [None, *[1] * (len(TEXTS) - 1)]
    with pytest.raises(DataError, match=r"row 0 \(from 0\) has nothing in column 'boats', but each label"):
        transfuse.evaluate(sets, {"text": TEXTS, **columns})


@pytest.mark.parametrize("value", [-1, 5, 0.2])
def test_labels_that_are_neither_0_nor_1(tmp_path: Path, value: float) -> None:
    model = bert(tmp_path / "a", BertForSequenceClassification, 2, **MULTI)
    columns: dict[str, list[Any]] = {name: [1] * len(TEXTS) for name in LABELS} | {"row": list(range(len(TEXTS)))}
    columns["boats"] = [1, value, *[0] * (len(TEXTS) - 2)]
    match = rf"row 1 \(from 0\) has {value} in column 'boats', but each label must be 0 or 1; turn fractions"
    rows = {"text": TEXTS, **columns}
    with pytest.raises(DataError, match=match):
        transfuse.evaluate(model, rows)
    with pytest.raises(DataError, match=match):
        transfuse.finetune(model, rows, epochs=1)
    lists = [list(row) for row in zip(*(columns[name] for name in LABELS), strict=True)]
    with pytest.raises(DataError, match=match.replace("boats", "labels")):
        transfuse.evaluate(model, {"text": TEXTS, "labels": lists})


@pytest.mark.parametrize("fractions", [[1.7], [0.2, 0.6, 1.0]])
def test_fractions_are_no_ids(tmp_path: Path, fractions: list[float]) -> None:
    model = bert(tmp_path / "a", BertForSequenceClassification, 2, **MULTI)
    with pytest.raises(DataError, match=rf"row 0 \(from 0\) has {fractions[0]} in column 'labels'.* threshold"):
        transfuse.evaluate(model, {"text": TEXTS, "labels": [fractions] * len(TEXTS)})


def test_two_classes_are_a_0_or_1_each(tmp_path: Path) -> None:
    model = bert(tmp_path / "a", BertForSequenceClassification, 2, **MULTI | classes(THINGS))
    hot = [[1, 0] if row % 3 else [0, 1] for row in range(len(TEXTS))]
    entry = transfuse.evaluate(model, {"text": TEXTS, "labels": hot}).records()[0]
    assert [entry["classes"][name]["support"] for name in THINGS] == [16, 8]


def test_labels_that_are_no_numbers(tmp_path: Path) -> None:
    model = bert(tmp_path / "a", BertForSequenceClassification, 2, num_labels=1)

    def refused(label: Any, match: str, **options: Any) -> None:
        rows = [{"text": text, "name": "x", "score": 1.0} for text in TEXTS]
        rows[1]["score"] = label
        with pytest.raises(DataError, match=match):
            transfuse.evaluate(model, rows, **options)

    refused(float("inf"), "the label inf is not finite; correct or remove it")
    refused(2.0, r"column 'name' \(label_column\) does not hold numbers; these do: 'score'", label_column="name")


def test_without_labels_models_are_compared(tmp_path: Path) -> None:
    plain = Dataset.from_dict({"text": TEXTS})
    for name, changes, measure in (("one", {"num_labels": 1}, "squared_difference"), ("many", MULTI, "divergence")):
        a, b = (bert(tmp_path / f"{name}{seed}", BertForSequenceClassification, seed, **changes) for seed in (1, 2))
        entry: dict[str, Any] = transfuse.evaluate([a, b], plain).records()[0]["agreement_with"][0]
        first, second = logits(a).double(), logits(b).double()
        if measure == "squared_difference":
            assert entry[measure] == pytest.approx(float((first - second).square().mean()), rel=1e-4)
            continue
        p, q = first.sigmoid(), second.sigmoid()
        kl = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
        assert entry[measure] == pytest.approx(float(kl.mean()), rel=1e-3)
        assert entry["agreement"] == pytest.approx(float(((first > 0) == (second > 0)).all(1).double().mean()))
        with pytest.raises(DataError, match=r"no labels that .* could be measured on; name their column, or give"):
            transfuse.evaluate(a, plain)
    other = bert(tmp_path / "other", BertForSequenceClassification, 1, num_labels=3)
    three = bert(tmp_path / "three", BertForSequenceClassification, 1, num_labels=4)
    with pytest.raises(ConfigError, match=r"three: its num_labels is 4, that of .* is 3; without labels, only models"):
        transfuse.evaluate([other, three], plain)
    with pytest.raises(ConfigError, match="predicts something else than"):
        transfuse.evaluate([tmp_path / "one1", tmp_path / "many1"], plain)


def test_a_model_agrees_with_itself(tmp_path: Path) -> None:
    a = bert(tmp_path / "a", BertForSequenceClassification, 1, num_labels=3)
    b = bert(tmp_path / "b", BertForSequenceClassification, 1, num_labels=3)
    entry = transfuse.evaluate([a, b], Dataset.from_dict({"text": TEXTS})).records()[0]["agreement_with"][0]
    assert (entry["agreement"], entry["divergence"]) == (1, pytest.approx(0, abs=1e-9))


def test_the_loss_of_a_sure_wrong_answer_is_its_logit() -> None:
    batch = {"labels": torch.zeros(1, 1)}
    logits = torch.full((1, 1), 40.0, dtype=torch.float64)
    assert float(label_sets.columns(logits, batch, {})["loss"]) == pytest.approx(40)
    assert float(label_sets.agreement(logits, -logits, batch)["loss"]) == pytest.approx(40)
    assert float(label_sets.mean([logits, -logits])) == pytest.approx(0)
    one, other = torch.tensor([0.3, -2.0]), torch.tensor([1.2, -1.0])
    expected = (one.sigmoid() + other.sigmoid()) / 2
    assert label_sets.mean([one, other]).sigmoid().tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("kind", [{}, {"problem_type": "multi_label_classification"}])
def test_classes_of_one_name_are_told_apart(tmp_path: Path, kind: dict[str, str]) -> None:
    names = {"id2label": {0: "other", 1: "boats", 2: "other"}, "label2id": {"boats": 1, "other": 2}}
    model = bert(tmp_path / "a", BertForSequenceClassification, 2, **kind, **names)
    labels = [[row % 3] if kind else row % 3 for row in range(len(TEXTS))]
    entry = transfuse.evaluate(model, {"text": TEXTS, "labels": labels}).records()[0]
    assert {name: grades["support"] for name, grades in entry["classes"].items()} == {
        "other (0)": 8, "boats": 8, "other (2)": 8
    }  # fmt: skip
