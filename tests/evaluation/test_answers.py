"""Question answering: answers are found in the context, and compared as SQuAD does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from kinds import SENTENCES, bert, text, tokenizer
from transformers import BertConfig, BertForQuestionAnswering

import transfuse
from transfuse.data.questions import parse_answers, question_preparer, text_of
from transfuse.errors import DataError
from transfuse.evaluation.kinds.answers import best_span, normalized, word_f1

CONTEXTS = [text(*sentence) for sentence in SENTENCES]
THINGS = [thing for _, thing, _ in SENTENCES]
ROWS: dict[str, list[Any]] = {
    "question": [f"what sees {name}" for name, _, _ in SENTENCES],
    "context": CONTEXTS,
    "answers": [{"text": [t], "answer_start": [c.index(t)]} for t, c in zip(THINGS, CONTEXTS, strict=True)],
}


def test_answers_are_normalized() -> None:
    assert normalized(" The  Quick, brown fox! ") == "quick brown fox"
    assert normalized("a theater") == "theater"


def test_f1_of_words() -> None:
    assert word_f1("the big boats", "boats") == pytest.approx(2 / 3)
    assert (word_f1("", ""), word_f1("boats", ""), word_f1("paris", "boats")) == (1, 0, 0)


def test_the_best_answer_is_in_the_context_and_not_reversed() -> None:
    offsets = torch.tensor([[0, 0], [0, 0], [0, 4], [5, 9], [0, 0]])
    scores = torch.tensor([[0.0, 9.0, -1.0, -0.5, 9.0], [0.0, 9.0, -0.2, -3.0, 9.0]])
    assert best_span(scores - 20, offsets, 0) is None  # no answer is as probable as the class token's
    scores[:, 0] = -30
    assert best_span(scores, offsets, 0) == (0, 4)  # from the third to the second would score more
    assert best_span(scores, torch.zeros_like(offsets), 0) is None


@pytest.mark.parametrize(
    "answers",
    [
        [{"text": [t], "answer_start": [c.index(t)]} for t, c in zip(THINGS, CONTEXTS, strict=True)],
        [[{"text": t, "answer_start": c.index(t)}] for t, c in zip(THINGS, CONTEXTS, strict=True)],
        THINGS,
    ],
)
def test_labels_are_the_tokens_of_the_answer(answers: list[Any]) -> None:
    rows = [
        {"question": q, "context": c, "answers": a, "names": None}
        for q, c, a in zip(ROWS["question"], CONTEXTS, answers, strict=True)
    ]
    words = tokenizer()
    batch = question_preparer(words, BertConfig(vocab_size=len(words)))(rows)
    for row, (start, end) in enumerate(batch["labels"].tolist()):
        assert words.decode(batch["input_ids"][row, start : end + 1]) == THINGS[row]
        first, last = int(batch["labels_offsets"][row, start, 0]), int(batch["labels_offsets"][row, end, 1])
        assert text_of(batch["labels_context"][row, 0])[first:last] == text_of(batch["labels_answers"][row, 0])


def test_a_question_without_an_answer_has_the_class_token() -> None:
    rows = [{"question": "what", "context": "anna sees boats", "answers": {"text": [], "answer_start": []}}]
    words = tokenizer()
    batch = question_preparer(words, BertConfig(vocab_size=len(words)))(rows)
    assert batch["labels"].tolist() == [[0, 0]]
    cut = {"question": "what", "context": "in " * 40 + "paris", "answers": {"text": ["paris"], "answer_start": [120]}}
    assert question_preparer(words, BertConfig(vocab_size=len(words)))([cut])["labels"].tolist() == [[0, 0]]


def test_other_answers_are_refused() -> None:
    with pytest.raises(DataError, match="answers should be dicts of 'text' and 'answer_start'"):
        parse_answers({"start": 1}, "anna")


def test_metrics_by_hand(tmp_path: Path) -> None:
    folder = bert(tmp_path / "a", BertForQuestionAnswering, 4)
    entry = transfuse.evaluate(folder, Dataset.from_dict(ROWS), batch_size=7).records()[0]
    words = tokenizer()
    inputs = words(ROWS["question"], CONTEXTS, return_tensors="pt")
    places = [
        ids.index(words.convert_tokens_to_ids(t)) for ids, t in zip(inputs["input_ids"].tolist(), THINGS, strict=True)
    ]
    target = torch.tensor(places)
    with torch.no_grad():
        model = BertForQuestionAnswering.from_pretrained(folder)
        expected = model(**inputs, start_positions=target, end_positions=target)
    assert entry["loss"] == pytest.approx(float(expected.loss), rel=1e-4)
    exact, overlap = [], []
    for row, thing in enumerate(THINGS):
        scores = expected.start_logits[row][:, None] + expected.end_logits[row][None]
        pairs = [(float(scores[i, j]), i, j) for i in range(5, 10) for j in range(i, 10)]
        best, start, end = max(pairs)
        answer = "" if scores[0, 0] > best else words.decode(inputs["input_ids"][row, start : end + 1])
        exact.append(answer == thing)
        overlap.append(word_f1(answer, thing))
    assert entry["exact_match"] == pytest.approx(sum(exact) / len(exact))
    assert entry["answer_f1"] == pytest.approx(sum(overlap) / len(overlap))
