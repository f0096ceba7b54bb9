"""Extractive question answering: exact match and F1 over the words of answers (Rajpurkar et al., 2016).

A context that is too long is read in several windows, of which the one with the most probable answer counts.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.data.text.questions import text_of
from transfuse.evaluation.kind import Columns, LabeledKind, mean_of_log_probabilities, outputs
from transfuse.evaluation.kinds.classes import divergence
from transfuse.evaluation.metrics import Score, ratio

MAX_ANSWER = 30  # tokens


def answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the logarithm of the probability that the answer starts and ends at each token [sample, 2, token]."""
    found = outputs(model, batch)
    logits = torch.stack([found["start_logits"], found["end_logits"]], 1).double()
    mask = batch["attention_mask"].bool().to(logits.device).unsqueeze(1)
    return logits.masked_fill(~mask, -torch.inf).log_softmax(-1)


def columns(log_probabilities: Tensor, batch: Batch, names: Mapping[int, str]) -> Columns:
    """Return the best answer of each window: its score, whether it is exact, and its F1; the same of no answer.

    The loss of a window is the mean cross-entropy of start and end.
    """
    spans = batch["labels_span"]
    losses = -log_probabilities.gather(2, spans.unsqueeze(2)).squeeze(2).mean(1)
    nothing = log_probabilities.gather(2, batch["labels_null"][:, None, None].expand(-1, 2, 1)).sum((1, 2))
    found: list[list[float]] = []
    for row, offsets in enumerate(batch["labels_offsets"]):
        golds = list(map(text_of, batch["labels_answers"][row]))
        score, first, last = best_span(log_probabilities[row], offsets)
        answer = text_of(batch["labels_context"][row, 0])[first:last]
        found.append([score, *_compared(answer, golds), *_compared("", golds)])
    values = torch.tensor(found, dtype=torch.float64)
    return {
        "correct": values[:, 1],
        "counts": torch.ones(len(spans), dtype=torch.float64),
        "loss": losses,
        "f1": values[:, 2],
        "score": values[:, 0],
        "nothing": torch.stack([nothing.double(), values[:, 3], values[:, 4]], 1),
        "answered": (spans != batch["labels_null"].unsqueeze(1)).any(1),
        "first": batch["labels_first"],
    }


def whole(found: Columns) -> Columns:
    """Return the columns of each context: those of the window with the best answer, or of no answer if it scores more.

    No answer scores as in the window where it is least probable. The loss is that of the first window that has the
    answer, or of the first window.
    """
    sample = found["first"].cumsum(0) - 1
    rows = [group.tolist() for group in torch.arange(len(sample)).split(sample.bincount().tolist())]
    scores, nothing = found["score"], found["nothing"]
    best = torch.tensor([max(group, key=lambda row: float(scores[row])) for group in rows])
    least = torch.tensor([min(group, key=lambda row: float(nothing[row, 0])) for group in rows])
    labeled = torch.tensor([max(group, key=lambda row: (bool(found["answered"][row]), -row)) for group in rows])
    is_empty = nothing[least, 0] > scores[best]
    unknown = torch.stack([found["loss"][group].isnan().any() for group in rows])
    return {
        "correct": torch.where(is_empty, nothing[best, 1], found["correct"][best]),
        "counts": found["counts"][best],
        "loss": found["loss"][labeled].masked_fill(unknown, torch.nan),
        "f1": torch.where(is_empty, nothing[best, 2], found["f1"][best]),
    }


def scores(found: Columns, names: Mapping[int, str]) -> dict[str, Score]:
    """Return the mean F1 of the answers."""
    return {"answer_f1": Score((found["f1"].double(), found["counts"]), ratio)}


def agreement(log_probabilities: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return whether both models give an answer the same start and end, and the mean divergence of both in nats."""
    same = (log_probabilities.argmax(-1) == others.argmax(-1)).all(1).double()
    return {"correct": same, "counts": torch.ones_like(same), "loss": divergence(log_probabilities, others).mean(1)}


def best_span(scores: Tensor, offsets: Tensor) -> tuple[float, int, int]:
    """Return the score of the most probable answer, its first character and the one after its last.

    Args:
        scores: logarithms of the probabilities of start and end [2, token].
        offsets: characters of each token of the context [token, 2]; empty for other tokens. If all are empty, there is
            no answer, whose score is minus infinity.
    """
    places = (offsets[:, 1] > offsets[:, 0]).nonzero().flatten()
    if not len(places):
        return -math.inf, 0, 0
    sums = scores[0, places].unsqueeze(1) + scores[1, places].unsqueeze(0)
    distance = places.unsqueeze(0) - places.unsqueeze(1)
    sums = sums.masked_fill((distance < 0) | (distance >= MAX_ANSWER), -torch.inf)
    start, end = divmod(int(sums.argmax()), len(places))
    return float(sums[start, end]), int(offsets[places[start], 0]), int(offsets[places[end], 1])


def _compared(answer: str, golds: list[str]) -> tuple[float, float]:
    """Return whether an answer is one of the correct ones, and its largest F1.

    As in SQuAD, correct answers of which nothing is left, such as "the", count only if there are no others.
    """
    golds = [gold for gold in golds if normalized(gold)] or [""]
    exact = max(float(normalized(answer) == normalized(gold)) for gold in golds)
    return exact, max(word_f1(answer, gold) for gold in golds)


def normalized(answer: str) -> str:
    """Return an answer in lower case, without punctuation, articles and more than one space between words."""
    plain = "".join(letter for letter in answer.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def word_f1(answer: str, gold: str) -> float:
    """Return the F1 of the words of an answer; 1 if both answers are empty."""
    words, expected = normalized(answer).split(), normalized(gold).split()
    if not words or not expected:
        return float(words == expected)
    common = (Counter(words) & Counter(expected)).total()
    return 2 * common / (len(words) + len(expected))


ANSWERS = LabeledKind(answers, mean_of_log_probabilities, agreement, columns, scores, whole=whole)
