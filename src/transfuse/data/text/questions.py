"""Samples for extractive question answering: a question, a text that contains the answer, and where it is."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from transfuse.base.counted import are, counted
from transfuse.data.column_kinds import is_string
from transfuse.data.columns import listed_names, raw_values
from transfuse.data.parts import find_column, label_part, require_values, with_parts
from transfuse.data.samples import Prepare, Samples
from transfuse.data.text.encoding import require_offsets
from transfuse.data.text.texts import text_preparer
from transfuse.data.text.windows import Windows, encode_windows
from transfuse.errors import DataError, NoLabelsError

QUESTION_NAMES = ("question", "query")
CONTEXT_NAMES = ("context", "passage", "paragraph", "text", "document")
ANSWER_NAMES = ("answers", "answer")
Answers = list[tuple[str, int]]
"""The texts of the correct answers, and the character of the context that each begins with."""


def with_questions(samples: Samples) -> Samples:
    """Return samples of questions and contexts, or of texts if there is no such pair of columns."""
    parts = _pair(samples)
    return samples.require_texts() if parts is None else with_parts(samples, parts["context"], parts)


def with_answers(samples: Samples) -> Samples:
    """Return samples of questions and contexts with their answers.

    Answers are dicts of `text` and `answer_start`, as in SQuAD (Rajpurkar et al., 2016), lists of such dicts, or texts.
    A note says how many are not in their contexts.

    Raises:
        DataError: a part is missing, or no answer is in its context.
    """
    parts = _pair(samples)
    if parts is None:
        names = listed_names(samples.dataset.column_names)
        raise NoLabelsError(f"{samples.name}: no columns 'question' and 'context' among {names}; name them so")
    answers = label_part(samples, ANSWER_NAMES, lambda feature: True, "answers")
    require_values(samples, answers)
    return _with_note_of_missing(with_parts(samples, parts["context"], parts | {"answers": answers}))


def _with_note_of_missing(samples: Samples) -> Samples:
    """Return samples with a note on the answers that are not in their contexts, which have no span as their label."""
    contexts, values = (raw_values(samples.dataset, samples.parts[part]) for part in ("context", "answers"))
    answered = missing = 0
    for context, value in zip(contexts, values, strict=True):
        for text, start in parse_answers(value, context or "")[:1]:
            answered += 1
            missing += not 0 <= start <= len(context or "") - len(text)
    if not missing:
        return samples
    if missing == answered:
        raise DataError(
            f"{samples.name}: none of {counted(answered, 'answer')} is in its context, letter by letter; give answers"
            " as they stand there, or with answer_start"
        )
    return samples.with_note(
        f"{missing} of {counted(answered, 'answer')} {are(missing)} not in the context, letter by letter, so that"
        " 'no answer' is the label"
    )


def question_preparer(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    """Return a function from texts, or rows of questions and contexts, to the inputs of a model.

    A context that is too long is cut off. If the rows have answers, the batch has `labels_span` [batch, 2], the first
    and the last token of each answer, and a context that is too long is read in the window that has the answer. The
    label of a question without an answer is the class token.
    """
    prepare_texts = text_preparer(tokenizer, config)

    def prepare(rows: list[Any]) -> dict[str, Tensor]:
        if not isinstance(rows[0], dict):
            return prepare_texts(rows)
        require_offsets(tokenizer, "questions and contexts")
        if "answers" not in rows[0]:
            return dict(encode_windows(tokenizer, config, rows, in_windows=False).inputs)
        windows = encode_windows(tokenizer, config, rows)
        spans = _spans(windows, rows, tokenizer.cls_token_id)
        answered = spans[:, 0] != _null_positions(windows.inputs["input_ids"], tokenizer.cls_token_id)
        chosen = [
            max(windows.rows_of(sample), key=lambda row: (bool(answered[row]), -row)) for sample in range(len(rows))
        ]
        return {name: values[chosen] for name, values in windows.inputs.items()} | {"labels_span": spans[chosen]}

    return prepare


def window_preparer(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    """Return a function from rows of questions, contexts and answers to what models are measured on.

    A context that is too long is read in overlapping windows, which are consecutive rows of the batch. `labels_first`
    [row] is 1 for the first of a sample, else 0. A window has `labels_span`, as in `question_preparer`, and what the
    metrics need: `labels_context` [row, 1, character] and `labels_answers` [row, answer, character] as code points, 0
    where a text has ended; `labels_offsets` [row, token, 2], the characters of each token of the context; and
    `labels_null` [row], the place of the class token, which stands for no answer.
    """

    def prepare(rows: list[Any]) -> dict[str, Tensor]:
        require_offsets(tokenizer, "questions and contexts")
        windows = encode_windows(tokenizer, config, rows)
        answers = [[text for text, _ in parse_answers(row["answers"], row["context"] or "")] for row in rows]
        return windows.inputs | {
            "labels_span": _spans(windows, rows, tokenizer.cls_token_id),
            "labels_first": windows.first.long(),
            "labels_context": _code_points([[row["context"] or ""] for row in rows])[windows.sample],
            "labels_answers": _code_points(answers)[windows.sample],
            "labels_offsets": windows.offsets,
            "labels_null": _null_positions(windows.inputs["input_ids"], tokenizer.cls_token_id),
        }

    return prepare


def parse_answers(value: Any, context: str) -> Answers:
    """Return the texts of the answers and where they begin; none for a question without an answer."""
    if isinstance(value, str):
        value = {"text": [value] if value else []}
    if isinstance(value, list):
        texts = [answer["text"] if isinstance(answer, dict) else answer for answer in value]
        starts: Any = [answer.get("answer_start") if isinstance(answer, dict) else None for answer in value]
    elif isinstance(value, dict) and "text" in value:
        texts = value["text"] if isinstance(value["text"], list) else [value["text"]]
        starts = value.get("answer_start")
        if starts is None:
            starts = [None] * len(texts)
        elif not isinstance(starts, list):
            starts = [starts]
        if len(starts) != len(texts):
            raise DataError(f"data: answers {texts!r:.80} have {len(starts)} answer_start; give one for each")
    else:
        raise DataError("data: answers should be dicts of 'text' and 'answer_start', or texts")
    return [
        (text, context.find(text) if start is None else int(start))
        for text, start in zip(texts, starts, strict=True)
        if text
    ]


def text_of(code_points: Tensor) -> str:
    """Return the text that was stored as code points."""
    return "".join(map(chr, code_points[code_points > 0].tolist()))


def _pair(samples: Samples) -> dict[str, str] | None:
    question = find_column(samples, QUESTION_NAMES, is_string)
    context = find_column(samples, CONTEXT_NAMES, is_string)
    return None if question is None or context is None else {"question": question, "context": context}


def _null_positions(ids: Tensor, class_token: int | None) -> Tensor:
    """Return the position of the class token of each text; 0 without such a token."""
    return torch.zeros(len(ids), dtype=torch.long) if class_token is None else (ids == class_token).int().argmax(1)


def _spans(windows: Windows, rows: list[Any], class_token: int | None) -> Tensor:
    """Return the first and the last token of the first answer to each question, in each window [row, 2]."""
    answers = [parse_answers(row["answers"], row["context"] or "") for row in rows]
    null = _null_positions(windows.inputs["input_ids"], class_token)
    places = zip(windows.sample.tolist(), windows.offsets, null.tolist(), windows.first.tolist(), strict=True)
    return torch.tensor([_span(answers[sample], offsets, place, first) for sample, offsets, place, first in places])


def _span(answers: Answers, offsets: Tensor, null: int, first: bool) -> tuple[int, int]:
    """Return the first and the last token of the first answer; `null` if the window does not have all of it."""
    for text, start in answers[:1]:
        end = start + len(text)
        is_context = offsets[:, 1] > offsets[:, 0]
        inside = (offsets[:, 1] > start) & (offsets[:, 0] < end) & is_context
        tokens = inside.nonzero().flatten()
        begins = first or int(offsets[is_context][0, 0]) <= start
        if start >= 0 and len(tokens) and begins and int(offsets[:, 1].max()) >= end:
            return int(tokens[0]), int(tokens[-1])
    return null, null


def _code_points(texts: list[list[str]]) -> Tensor:
    width = max([len(text) for row in texts for text in row], default=0) + 1
    count = max(1, *(len(row) for row in texts))
    points = torch.zeros(len(texts), count, width, dtype=torch.int32)
    for row, row_texts in enumerate(texts):
        for index, text in enumerate(row_texts):
            points[row, index, : len(text)] = torch.tensor([ord(letter) or 32 for letter in text], dtype=torch.int32)
    return points
