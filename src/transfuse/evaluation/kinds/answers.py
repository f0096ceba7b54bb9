"""Extractive question answering: exact match and F1 over the words of answers (Rajpurkar et al., 2016)."""

import re
import string
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.data.questions import text_of
from transfuse.evaluation.kind import Columns, Kind, mean_of_log_probabilities, outputs
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
    """Return whether the answer to each question is exact, its F1, and the mean cross-entropy of start and end."""
    labels = batch["labels"]
    losses = -log_probabilities.gather(2, labels.unsqueeze(2)).squeeze(2).mean(1)
    exact, overlap = [], []
    for row in range(len(labels)):
        golds = [text for text in map(text_of, batch["labels_answers"][row]) if text] or [""]
        span = best_span(log_probabilities[row], batch["labels_offsets"][row], int(batch["labels_null"][row]))
        answer = "" if span is None else text_of(batch["labels_context"][row, 0])[slice(*span)]
        exact.append(max(float(normalized(answer) == normalized(gold)) for gold in golds))
        overlap.append(max(word_f1(answer, gold) for gold in golds))
    counts = torch.ones(len(labels), dtype=torch.float64)
    return {"correct": torch.tensor(exact), "counts": counts, "loss": losses, "f1": torch.tensor(overlap)}


def scores(found: Columns, names: Mapping[int, str]) -> dict[str, Score]:
    """Return the mean F1 of the answers."""
    return {"answer_f1": Score((found["f1"].double(), found["counts"]), ratio)}


def agreement(log_probabilities: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return whether both models give an answer the same start and end, and the mean divergence of both in nats."""
    same = (log_probabilities.argmax(-1) == others.argmax(-1)).all(1).double()
    return {"correct": same, "counts": torch.ones_like(same), "loss": divergence(log_probabilities, others).mean(1)}


def best_span(scores: Tensor, offsets: Tensor, null: int) -> tuple[int, int] | None:
    """Return the first character of the most probable answer and the one after its last; None for no answer.

    Args:
        scores: logarithms of the probabilities of start and end [2, token].
        offsets: characters of each token of the context [token, 2]; empty for other tokens.
        null: token that stands for no answer.
    """
    places = (offsets[:, 1] > offsets[:, 0]).nonzero().flatten()
    if not len(places):
        return None
    sums = scores[0, places].unsqueeze(1) + scores[1, places].unsqueeze(0)
    distance = places.unsqueeze(0) - places.unsqueeze(1)
    sums = sums.masked_fill((distance < 0) | (distance >= MAX_ANSWER), -torch.inf)
    start, end = divmod(int(sums.argmax()), len(places))
    if scores[0, null] + scores[1, null] > sums[start, end]:
        return None
    return int(offsets[places[start], 0]), int(offsets[places[end], 1])


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


ANSWERS = Kind(answers, mean_of_log_probabilities, columns, scores, agreement)
