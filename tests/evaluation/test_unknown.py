"""A model whose outputs are not numbers has no scores, whatever else could be computed from them."""

from math import isnan
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_warnings import KeptWarnings
from kinds import NAMES, SENTENCES, WORDS, bert, classes, text
from transformers import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertModel,
    PreTrainedModel,
)

import transfuse
from transfuse.cli.output import json_values
from transfuse.evaluation.kinds import answers, pairs

TEXTS = [text(*sentence) for sentence in SENTENCES]
THINGS = [thing for _, thing, _ in SENTENCES]
QUESTIONS = {
    "question": [f"what sees {name}" for name, _, _ in SENTENCES],
    "context": TEXTS,
    "answers": [{"text": [t], "answer_start": [c.index(t)]} for t, c in zip(THINGS, TEXTS, strict=True)],
}
WHAT = "outputs for 12 of 24 samples are not numbers (NaN or infinite), so all scores are NaN; check the weights"
KINDS: dict[str, tuple[type[PreTrainedModel], dict[str, Any], dict[str, Any]]] = {
    "classes": (
        BertForSequenceClassification, classes(NAMES), {"text": TEXTS, "label": [row % 3 for row in range(24)]}
    ),
    "numbers": (
        BertForSequenceClassification, {"num_labels": 1}, {"text": TEXTS, "score": [row / 5 for row in range(24)]}
    ),
    "label sets": (
        BertForSequenceClassification,
        {"problem_type": "multi_label_classification", **classes(NAMES)},
        {"text": TEXTS, "labels": [[row % 3] for row in range(24)]},
    ),
    "entities": (
        BertForTokenClassification,
        classes(("O", "B-X", "I-X")),
        {"tokens": [words.split() for words in TEXTS], "tags": [[row % 3] * 5 for row in range(24)]},
    ),
    "answers": (BertForQuestionAnswering, {}, QUESTIONS),
    "tokens": (BertLMHeadModel, {"is_decoder": True, "tie_word_embeddings": False}, {"text": TEXTS}),
}  # fmt: skip


def two(folder: Path, build: type[PreTrainedModel], **changes: Any) -> list[Path]:
    """A model, and one whose outputs for sentences of apples overflow, though its weights are finite."""
    good, bad = (bert(folder / name, build, 3, **changes) for name in ("good", "bad"))
    model = build.from_pretrained(bad)
    with torch.no_grad():
        model.get_input_embeddings().weight[WORDS.index("apples"), ::2] = 3e38
    model.save_pretrained(bad)
    return [good, bad]


def numbers(values: Any) -> list[float]:
    """All numbers within lists and dicts."""
    if isinstance(values, dict):
        return [number for value in values.values() for number in numbers(value)]
    if isinstance(values, list | tuple):
        return [number for value in values for number in numbers(value)]
    return [values] if isinstance(values, int | float) else []


@pytest.mark.parametrize("kind", KINDS)
def test_no_score_is_known(tmp_path: Path, kind: str) -> None:
    build, changes, data = KINDS[kind]
    good, bad = two(tmp_path, build, **changes)
    told = KeptWarnings()
    found = transfuse.evaluate([good, bad], data, progress=told, batch_size=5)
    assert told.lines == [f"{bad}: {WHAT}"]
    own, unknown = json_values(found.records())
    assert not any(isnan(value) for value in numbers(own))
    assert numbers(own.pop("against")) == []
    for reports in unknown.pop("classes", {}).values():
        assert numbers(reports) == [reports.pop("support")]
    assert numbers(unknown) == [own["samples"]]
    assert unknown["intervals"] == dict.fromkeys(own["intervals"])


@pytest.mark.parametrize("kind", ["outputs", *(kind for kind in KINDS if kind != "tokens")])
def test_agreement_is_not_known_either(tmp_path: Path, kind: str) -> None:
    build, changes, _ = KINDS.get(kind, (BertModel, {}, {}))
    data = {name: QUESTIONS[name] for name in ("question", "context")} if kind == "answers" else {"text": TEXTS}
    models = two(tmp_path, build, **changes)
    for first, other in (models, reversed(models)):
        told = KeptWarnings()
        record = json_values(transfuse.evaluate([first, other], data, progress=told).records())[0]
        assert told.lines == [f"{first}, compared with {other}: {WHAT}"]
        assert numbers(record["agreement_with"]) == [record["agreement_with"][0]["samples"]]


def test_one_window_of_a_context_is_enough() -> None:
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    sums = {name: torch.zeros(3, dtype=torch.float64) for name in ("correct", "counts", "f1", "score")}
    loss = torch.tensor([0.5, torch.nan, 0.25], dtype=torch.float64)
    places = {"answered": torch.tensor([True, False, True]), "first": torch.tensor([1, 0, 1])}
    found = answers.whole({**sums, "loss": loss, "nothing": nothing, **places})
    assert found["loss"].isnan().tolist() == [True, False]


def test_one_pair_does_not_hide_which_others_are_known() -> None:
    embeddings = torch.eye(4, dtype=torch.float64).unsqueeze(1).repeat(1, 2, 1)
    embeddings[1, 0, 2] = torch.nan
    ones = torch.ones(4, dtype=torch.float64)
    contents = torch.arange(8).view(4, 2)
    found = pairs.whole({"embeddings": embeddings, "contents": contents, "counts": ones})
    assert found["loss"].isnan().tolist() == found["image_recall_1"].isnan().tolist() == [False, True, False, False]
