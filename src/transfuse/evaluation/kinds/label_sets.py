"""Multi-label classification: F1 over all labels, its mean over the classes, and the share of exact sets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.evaluation.kind import Columns, Kind, arithmetic_mean, class_reports, f1, outputs
from transfuse.evaluation.metrics import ClassReport, Score

THRESHOLD = 0.5  # of the probability of a class


def answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the probability of each class [sample, class]."""
    return outputs(model, batch)["logits"].double().sigmoid()


def columns(probabilities: Tensor, batch: Batch, names: Mapping[int, str]) -> Columns:
    """Return whether the set of each sample is correct, its mean cross-entropy per class, and its counts by class."""
    labels = batch["labels"].double()
    predicted = (probabilities > THRESHOLD).double()
    counts = torch.stack([predicted * labels, predicted, labels], -1)
    return _compared(probabilities, labels, predicted, labels) | {"by_class": counts}


def scores(found: Columns, names: Mapping[int, str]) -> dict[str, Score]:
    """Return F1 over all labels, and the mean F1 of the classes that occur."""
    by_class = found["by_class"]
    flat = by_class.reshape(len(by_class), -1)
    return {"micro_f1": Score(by_class.sum(1).unbind(1), f1), "macro_f1": Score(flat.unbind(1), _macro_f1)}


def agreement(probabilities: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return whether both models predict the same set, and the mean divergence per class from the other model."""
    same = ((probabilities > THRESHOLD).double(), (others > THRESHOLD).double())
    compared = _compared(probabilities, others, *same)
    entropy = binary_cross_entropy(others.clamp(0, 1), others, reduction="none").mean(1)
    return compared | {"loss": compared["loss"] - entropy}


def reports(found: Columns, names: Mapping[int, str]) -> dict[str, ClassReport]:
    """Return precision, recall and F1 of every class."""
    return class_reports(found["by_class"].sum(0), names)


def _compared(probabilities: Tensor, target: Tensor, predicted: Tensor, expected: Tensor) -> dict[str, Tensor]:
    loss = binary_cross_entropy(probabilities, target, reduction="none").mean(1)
    correct = (predicted == expected).all(1).double()
    return {"correct": correct, "counts": torch.ones_like(correct), "loss": loss}


def _macro_f1(*counts: Any, axis: int = -1) -> Any:
    """Return the mean F1 over the classes that are predicted or labeled, given three columns for each class."""
    sums = [np.asarray(column).sum(-1) for column in counts]
    right, predicted, labeled = (np.stack(sums[start::3]) for start in range(3))
    occurs = predicted + labeled > 0
    values = 2 * right / np.where(occurs, predicted + labeled, 1.0)
    return values.sum(0) / np.maximum(occurs.sum(0), 1)


LABEL_SETS = Kind(answers, arithmetic_mean, columns, scores, agreement, reports)
