"""Regression: mean squared error, and the correlations of predictions and labels."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy  # which imports `scipy.stats` when it is used
import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.evaluation.kind import Columns, LabeledKind, arithmetic_mean, outputs
from transfuse.evaluation.metrics import Score


def answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the numbers that a model predicts [sample, number]."""
    return outputs(model, batch)["logits"].double()


def columns(predicted: Tensor, batch: Batch, names: Mapping[int, str]) -> Columns:
    """Return the mean squared error of each sample, its predictions and its labels."""
    return _squared_error(predicted, batch["labels"].double()) | {"predicted": predicted, "labels": batch["labels"]}


def scores(found: Columns, names: Mapping[int, str]) -> dict[str, Score]:
    """Return the correlations; of several numbers, the mean over them."""
    parts = [*found["predicted"].double().unbind(1), *found["labels"].double().unbind(1)]
    return {"pearson": Score(parts, _mean_pearson), "spearman": Score(parts, _mean_spearman)}


def agreement(predicted: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return the mean squared difference of each sample."""
    return _squared_error(predicted, others)


def _squared_error(predicted: Tensor, target: Tensor) -> dict[str, Tensor]:
    error = (predicted - target).square().mean(1)
    error = error.where(error.isfinite(), torch.nan)
    return {"correct": torch.full_like(error, torch.nan), "counts": torch.ones_like(error), "loss": error}


def _mean_pearson(*parts: Any, axis: int = -1) -> Any:
    count = len(parts) // 2
    pairs = zip(parts[:count], parts[count:], strict=True)
    return np.mean([_pearson(np.asarray(x), np.asarray(y)) for x, y in pairs], axis=0)


def _mean_spearman(*parts: Any, axis: int = -1) -> Any:
    return _mean_pearson(*(scipy.stats.rankdata(np.asarray(values), axis=-1) for values in parts))


def _pearson(x: Any, y: Any) -> Any:
    """Return Pearson's correlation along the last axis, 0 if one side is constant."""
    x = x - x.mean(-1, keepdims=True)
    y = y - y.mean(-1, keepdims=True)
    scale = np.sqrt((x * x).sum(-1) * (y * y).sum(-1))
    return (x * y).sum(-1) / np.where(scale > 0, scale, 1.0)


NUMBERS = LabeledKind(answers, arithmetic_mean, agreement, columns, scores)
