"""Multi-label classification: F1 over all labels, its mean over the classes, and the share of exact sets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.evaluation.kind import Columns, LabeledKind, class_reports, f1, outputs
from transfuse.evaluation.metrics import ClassReport, Score

THRESHOLD = 0.0  # of the logit of a class, whose probability is then 1/2


def answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the logit of each class [sample, class]."""
    return outputs(model, batch)["logits"].double()


def mean(logits: Sequence[Tensor]) -> Tensor:
    """Return the logits of the mean of probabilities, given as logits."""
    present, absent = (torch.stack([logsigmoid(sign * each) for each in logits]).logsumexp(0) for sign in (1, -1))
    return logits[0] if len(logits) == 1 else present - absent


def columns(logits: Tensor, batch: Batch, names: Mapping[int, str]) -> Columns:
    """Return whether the set of each sample is correct, its mean cross-entropy per class, and its counts by class."""
    labels = batch["labels"].double()
    predicted = (logits > THRESHOLD).double()
    counts = torch.stack([predicted * labels, predicted, labels], -1)
    return _compared(logits, labels, predicted, labels) | {"by_class": counts}


def scores(found: Columns, names: Mapping[int, str]) -> dict[str, Score]:
    """Return F1 over all labels, and the mean F1 of the classes that occur."""
    by_class = found["by_class"]
    flat = by_class.reshape(len(by_class), -1)
    return {"micro_f1": Score(by_class.sum(1).unbind(1), f1), "macro_f1": Score(flat.unbind(1), _macro_f1)}


def agreement(logits: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return whether both models predict the same set, and the mean divergence per class from the other model."""
    same = ((logits > THRESHOLD).double(), (others > THRESHOLD).double())
    target = others.sigmoid()
    compared = _compared(logits, target, *same)
    entropy = binary_cross_entropy_with_logits(others, target, reduction="none").mean(1)
    return compared | {"loss": compared["loss"] - entropy}


def reports(found: Columns, names: Mapping[int, str]) -> dict[str, ClassReport]:
    """Return precision, recall and F1 of every class."""
    return class_reports(found["by_class"].sum(0), names)


def _compared(logits: Tensor, target: Tensor, predicted: Tensor, expected: Tensor) -> dict[str, Tensor]:
    loss = binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
    loss = loss.where(loss.isfinite(), torch.nan)
    correct = (predicted == expected).all(1).double()
    return {"correct": correct, "counts": torch.ones_like(correct), "loss": loss}


def _macro_f1(*counts: Any, axis: int = -1) -> Any:
    """Return the mean F1 over the classes that are predicted or labeled, given three columns for each class."""
    sums = [np.asarray(column).sum(-1) for column in counts]
    right, predicted, labeled = (np.stack(sums[start::3]) for start in range(3))
    occurs = predicted + labeled > 0
    values = 2 * right / np.where(occurs, predicted + labeled, 1.0)
    return values.sum(0) / np.maximum(occurs.sum(0), 1)


LABEL_SETS = LabeledKind(answers, mean, agreement, columns, scores, reports)
