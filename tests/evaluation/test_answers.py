"""Question answering: answers are found in the context, and compared as SQuAD does."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from kept_warnings import KeptWarnings
from kinds import SENTENCES, bert, text, tokenizer
from transformers import BertConfig, BertForQuestionAnswering

import transfuse
from transfuse.data.load import load_samples
from transfuse.data.text.questions import parse_answers, question_preparer, text_of, window_preparer, with_answers
from transfuse.errors import DataError
from transfuse.evaluation.kinds.answers import _compared, best_span, normalized, word_f1

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


def test_answers_of_articles_alone_count_only_if_there_are_no_others() -> None:
    assert _compared("", ["the", "cat"]) == (0, 0)
    assert _compared("A cat", ["", "the cat"]) == (1, 1)
    assert _compared("", ["the", ""]) == (1, 1)


def test_the_best_answer_is_in_the_context_and_not_reversed() -> None:
    offsets = torch.tensor([[0, 0], [0, 0], [0, 4], [5, 9], [0, 0]])
    scores = torch.tensor([[0.0, 9.0, -1.0, -0.5, 9.0], [0.0, 9.0, -0.2, -3.0, 9.0]])
    assert best_span(scores, offsets) == (pytest.approx(-1.2), 0, 4)  # from the third to the second would score more
    assert best_span(scores, torch.zeros_like(offsets)) == (-math.inf, 0, 0)


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
    batch = window_preparer(words, BertConfig(vocab_size=len(words)))(rows)
    for row, (start, end) in enumerate(batch["labels_span"].tolist()):
        assert words.decode(batch["input_ids"][row, start : end + 1]) == THINGS[row]
        first, last = int(batch["labels_offsets"][row, start, 0]), int(batch["labels_offsets"][row, end, 1])
        assert text_of(batch["labels_context"][row, 0])[first:last] == text_of(batch["labels_answers"][row, 0])


def test_a_question_without_an_answer_has_the_class_token() -> None:
    rows = [{"question": "what", "context": "anna sees boats", "answers": {"text": [], "answer_start": []}}]
    words = tokenizer()
    for preparer in (question_preparer, window_preparer):
        assert preparer(words, BertConfig(vocab_size=len(words)))(rows)["labels_span"].tolist() == [[0, 0]]


LONG: dict[str, Any] = {
    "question": "what",
    "context": "in " * 40 + "paris sees rome",
    "answers": {"text": ["paris"], "answer_start": [120]},
}


def test_a_long_context_is_read_in_windows() -> None:
    """Each window has the question; all tokens of the context are in one or more; two repeat some."""
    words = tokenizer()
    batch = window_preparer(words, BertConfig(vocab_size=len(words)))([LONG, {**LONG, "context": "anna in paris"}])
    assert batch["labels_first"].tolist() == [1, 0, 0, 0, 1]
    assert (batch["input_ids"][:, :3] == torch.tensor(words("what")["input_ids"])).all()
    offsets = batch["labels_offsets"]
    seen = [{tuple(span) for span in window.tolist() if span[1]} for window in offsets[:4]]
    assert len(set.union(*seen)) == 43
    assert all(first & second for first, second in pairwise(seen))
    for row, (start, end) in enumerate(batch["labels_span"][:4].tolist()):
        has_answer = (120, 125) in seen[row]
        answer = LONG["context"][offsets[row, start, 0] : offsets[row, end, 1]]
        assert answer == ("paris" if has_answer else "")


def test_training_reads_the_window_that_has_the_answer() -> None:
    words = tokenizer()
    batch = question_preparer(words, BertConfig(vocab_size=len(words)))([LONG, {**LONG, "context": "anna in paris"}])
    assert set(batch) == {"input_ids", "token_type_ids", "attention_mask", "labels_span"}
    start, end = batch["labels_span"][0].tolist()
    assert words.decode(batch["input_ids"][0, start : end + 1]) == "paris"


def test_the_best_answer_of_all_windows_counts(tmp_path: Path) -> None:
    """As in transformers' pipeline: the answer with the highest score, unless no answer scores more in every window."""
    folder = bert(tmp_path / "a", BertForQuestionAnswering, 4)
    data = [{**LONG, "context": f"{name} in " * 15 + LONG["context"]} for name in ("anna", "bert", "carl")]
    for row in data:
        row["answers"] = {"text": ["sees rome"], "answer_start": [row["context"].index("sees rome")]}
    told = KeptWarnings()
    evaluation = transfuse.evaluate(folder, Dataset.from_list(data), progress=told)
    assert told.lines == ["3 of 3 contexts are longer than the model takes; they are read in windows"]
    words, model = tokenizer(), BertForQuestionAnswering.from_pretrained(folder).eval()
    overlaps = []
    for row in data:
        encoded = words(
            row["question"], row["context"], max_length=24, truncation="only_second", stride=10, padding="max_length",
            return_overflowing_tokens=True, return_offsets_mapping=True, return_tensors="pt",
        )  # fmt: skip
        with torch.no_grad():
            found = model(**{name: encoded[name] for name in ("input_ids", "attention_mask", "token_type_ids")})
        start, end = (
            values.masked_fill(encoded["attention_mask"] == 0, -torch.inf).log_softmax(-1).tolist()
            for values in (found.start_logits, found.end_logits)
        )
        candidates = [
            (start[window][i] + end[window][j], places[i][0], places[j][1])
            for window, places in enumerate(encoded["offset_mapping"].tolist())
            for i in range(3, 24)
            for j in range(i, 24)
            if places[i][1] and places[j][1]
        ]
        nothing = min(start[window][0] + end[window][0] for window in range(len(start)))
        score, first, last = max(candidates)
        overlaps.append(word_f1("" if nothing > score else row["context"][first:last], "sees rome"))
    assert len(start) > 3
    assert evaluation.records()[0]["answer_f1"] == pytest.approx(sum(overlaps) / len(overlaps))


def test_other_answers_are_refused() -> None:
    with pytest.raises(DataError, match="answers should be dicts of 'text' and 'answer_start'"):
        parse_answers({"start": 1}, "anna")
    with pytest.raises(DataError, match=r"answers \['a', 'b'\] have 1 answer_start; give one for each"):
        parse_answers({"text": ["a", "b"], "answer_start": [1]}, "anna")


def test_rows_without_a_context_are_left_out() -> None:
    samples = with_answers(load_samples({**ROWS, "context": [None, " ", *CONTEXTS[2:]], "answers": THINGS}))
    assert [row["context"] for row in samples.inputs(range(len(samples)))] == CONTEXTS[2:]
    assert samples.notes == (f"dataset in memory: 2 of {len(CONTEXTS)} texts are empty and left out",)


def test_a_note_counts_the_answers_that_are_not_in_their_contexts() -> None:
    shouted = [thing.upper() for thing in THINGS]
    some = with_answers(load_samples({**ROWS, "answers": ["", *shouted[1:3], *THINGS[3:]]}))
    assert some.notes == (
        f"dataset in memory: 2 of {len(THINGS) - 1} answers are not in the context, letter by letter, so that"
        " 'no answer' is the label",
    )
    assert with_answers(load_samples(Dataset.from_dict(ROWS))).notes == ()
    with pytest.raises(DataError, match=rf"none of {len(THINGS)} answers is in its context, letter by letter; give"):
        with_answers(load_samples({**ROWS, "answers": shouted}))
    beyond = [{"text": [thing], "answer_start": [99]} for thing in THINGS]
    with pytest.raises(DataError, match="is in its context"):
        with_answers(load_samples({**ROWS, "answers": beyond}))


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
