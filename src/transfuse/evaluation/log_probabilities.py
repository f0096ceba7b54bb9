"""Predictions of classifiers and language models, computed from log-probabilities batch by batch."""

from collections.abc import Callable, Iterable
from functools import partial
from math import log, nan

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import nll_loss

from transfuse.base.batch import (
    IGNORED_LABEL,
    Batch,
    batch_size,
    labels_of,
    sample_indices,
    whole_batch,
)
from transfuse.base.in_parts import Split, computed_in_parts
from transfuse.errors import DataError
from transfuse.evaluation.metrics import BINS, Predictions, Score, ratio

LogProbabilities = Float[Tensor, "answer cls"]
PredictLog = Callable[[Batch], LogProbabilities | Iterable[LogProbabilities]]
"""Returns the log-probabilities of a batch in the order of its predictions, all at once or in parts."""


def predictions(predict_log: PredictLog, batches: Iterable[Batch], split: Split = whole_batch) -> Predictions:
    """Compute log-probabilities batch by batch, and return a few numbers per sample.

    Args:
        predict_log: returns the log-probabilities of a batch.
        batches: labeled samples.
        split: splits each batch.

    Raises:
        DataError: there is nothing to predict.
    """
    bins = torch.zeros(BINS, 3, dtype=torch.float64)
    batch_columns = [_batch_columns(predict_log, batch, split, bins) for batch in batches]
    if not sum(float(columns[1].sum()) for columns in batch_columns):
        raise DataError("nothing to measure: no text has a token to predict; give longer texts")
    sums = [torch.cat(column) for column in zip(*batch_columns, strict=True)]
    correct, counts, loss, text_loss, text_bytes, predicted, labels = sums
    correct, text_loss = (column.masked_fill(loss.isnan(), nan) for column in (correct, text_loss))
    scores = {"bits_per_byte": Score((text_loss / log(2), text_bytes), ratio)} if text_bytes.sum() else {}
    return Predictions(correct, counts, loss, bins, predicted, labels, scores)


def _batch_columns(predict_log: PredictLog, batch: Batch, split: Split, bins: Tensor) -> list[Tensor]:
    """Return the columns of `_part_columns` for all samples of a batch, in its order, and add to the bins.

    If memory is short, each part is halved.
    """
    parts, order = computed_in_parts(partial(_part_columns, predict_log), split, batch)
    for _, part_bins in parts:
        bins += part_bins
    joined = [torch.cat(column) for column in zip(*(columns for columns, _ in parts), strict=True)]
    return [column[order] if len(column) == len(order) else column for column in joined]


def _part_columns(predict_log: PredictLog, batch: Batch) -> tuple[list[Tensor], Tensor]:
    """Return the columns of a part of a batch, and its bins.

    The columns are correct, counts and loss of each sample (see `Predictions`), the loss of its tokens that are text,
    the bytes of these, its predicted class and its label. The last two are empty if the model is not a classifier.
    Bytes are 0 if the batch does not tell them.
    """
    labels = labels_of(batch).cpu()
    sizes = _bytes_of_labels(batch, len(labels))
    samples = sample_indices(batch, len(labels))
    bins = torch.zeros(BINS, 3, dtype=torch.float64)
    sums = torch.zeros(5, batch_size(batch), dtype=torch.float64)
    predicted = torch.empty_like(labels)
    log_probabilities = predict_log(batch)
    start = 0
    for part in (log_probabilities,) if isinstance(log_probabilities, Tensor) else log_probabilities:
        rows = slice(start, start + len(part))
        values, targets = part.cpu().double(), labels[rows]
        predicted[rows] = values.argmax(-1)
        losses = nll_loss(values, targets, reduction="none")
        correct = (predicted[rows] == targets).double()
        text_losses = losses.where(sizes[rows] >= 0, 0.0)
        columns = [correct, torch.ones_like(correct), losses, text_losses, sizes[rows].clamp_min(0)]
        sums.index_add_(1, samples[rows], torch.stack(columns))
        _add_to_bins(bins, values, targets)
        start += len(part)
    classes = [predicted, labels] if batch["labels"].ndim == 1 else [labels[:0], labels[:0]]
    return [*sums, *classes], bins


def _bytes_of_labels(batch: Batch, count: int) -> Float[Tensor, " answer"]:
    """Return how many bytes of text each label of a batch stands for, or a negative number."""
    if "labels_bytes" not in batch:
        return torch.full((count,), -1.0, dtype=torch.float64)
    return batch["labels_bytes"][batch["labels"] != IGNORED_LABEL].cpu().double()


def _add_to_bins(bins: Tensor, log_probabilities: LogProbabilities, labels: Int[Tensor, " answer"]) -> None:
    confidence, predicted = log_probabilities.exp().max(-1)
    index = (confidence.nan_to_num() * BINS).long().clamp(max=BINS - 1)  # NaN stays in the sums, so the error is NaN
    correct = (predicted == labels).double()
    bins.index_add_(0, index, torch.stack([torch.ones_like(confidence), confidence, correct], -1))
