"""What models answer, sample by sample: accuracy, loss and calibration are made of it, and how sure these are."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import exp, nan

import torch
from jaxtyping import Float, Int
from sklearn.metrics import precision_recall_fscore_support
from torch import Tensor
from torch.nn.functional import nll_loss

from transfuse.base.batch import Batch, IndexedBatch, batch_size, labels_of, sample_indices, split_batch, whole_batch
from transfuse.base.budget import run_in_parts
from transfuse.errors import DataError

BINS = 15  # of confidence, as Guo et al. (2017) take them
MOST = 700.0  # whose exponential is still a number


@dataclass(frozen=True)
class Metrics:
    """Accuracy in [0, 1] and mean cross-entropy in nats over `samples`: images, texts, or words to be guessed.

    `calibration_error`: expected difference between confidence and accuracy (Guo et al., 1706.04599), over 15 bins of
    equal width of the highest probability.
    """

    accuracy: float
    loss: float
    samples: int
    calibration_error: float = nan

    @property
    def perplexity(self) -> float:
        """exp(loss): of a language model, among how many words it hesitates."""
        return exp(min(self.loss, MOST))


@dataclass(frozen=True)
class ClassReport:
    """How well one class is told from the others. `support`: samples of it."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Predictions:
    """What a model answered. A sample is an image or a text: words of one text are asked together.

    Attributes:
        right, asked: answers of each sample that were right, and all of them.
        loss: their summed cross-entropy, in nats.
        bins: answers by their confidence: how many, the sum of confidences, how many right.
        chosen, wanted: of a classifier, the class it chose and the label; else empty.
    """

    right: Float[Tensor, " sample"]
    asked: Float[Tensor, " sample"]
    loss: Float[Tensor, " sample"]
    bins: Float[Tensor, "bin 3"]
    chosen: Int[Tensor, " sample"]
    wanted: Int[Tensor, " sample"]

    def metrics(self) -> Metrics:
        """Means over all answers."""
        count = float(self.asked.sum())
        off = (self.bins[:, 1] - self.bins[:, 2]).abs().sum() / count
        return Metrics(float(self.right.sum()) / count, float(self.loss.sum()) / count, int(count), float(off))

    def grades(self, names: Mapping[int, str]) -> dict[str, ClassReport]:
        """Precision, recall and F1 of every class that was wanted or chosen; empty for what is no classifier."""
        if not len(self.wanted):
            return {}
        found = precision_recall_fscore_support(self.wanted.numpy(), self.chosen.numpy(), zero_division=0.0)
        labels = torch.cat([self.wanted, self.chosen]).unique().tolist()
        return {
            names.get(label, str(label)): ClassReport(float(precision), float(recall), float(f1), int(support))
            for label, precision, recall, f1, support in zip(labels, *found, strict=True)
        }


Scores = Float[Tensor, "answer cls"]
PredictLog = Callable[[Batch], Scores | Iterable[Scores]]  # log-probabilities in the order of the answers
Split = Callable[[Batch], Iterable[IndexedBatch]]


def predictions(predict_log: PredictLog, batches: Iterable[Batch], split: Split = whole_batch) -> Predictions:
    """Return what comes of log-probabilities, batch by batch: a few numbers a sample are kept.

    Args:
        predict_log: of a batch, all at once or some at a time.
        split: the parts of a batch that are looked at together.

    Raises:
        DataError: nothing was asked.
    """
    bins, parts = torch.zeros(BINS, 3, dtype=torch.float64), []
    for batch in batches:
        parts.append(_by_pieces(predict_log, batch, split, bins))
    if not sum(float(part[1].sum()) for part in parts):
        raise DataError("nothing to measure: no text has a word that could be guessed; give longer texts")
    right, count, loss, chosen, wanted = (torch.cat(each) for each in zip(*parts, strict=True))
    return Predictions(right, count, loss, bins, chosen, wanted)


def _by_pieces(predict_log: PredictLog, batch: Batch, split: Split, bins: Tensor) -> list[Tensor]:
    """Return of each sample, in the order of the batch, what `_part` does.

    Where memory is short, half as many samples are looked at together.
    """

    def work(part: Batch) -> tuple[list[Tensor], Tensor]:
        return _part(predict_log, part)

    def halves(part: Batch) -> list[Batch]:
        return list(split_batch(part, -(-batch_size(part) // 2)))

    places, found = [], []
    for place, piece in split(batch):
        places.append(place)
        for values, counted in run_in_parts(work, halves, piece):
            found.append(values)
            bins += counted
    columns = [torch.cat(each) for each in zip(*found, strict=True)]
    order = torch.cat(places).argsort()
    return [values[order] if len(values) == len(order) else values for values in columns]


def _part(predict_log: PredictLog, batch: Batch) -> tuple[list[Tensor], Tensor]:
    """Return of each sample: right, asked, loss and, of a classifier, chosen and wanted class; and the bins."""
    labels, samples, start = labels_of(batch).cpu(), batch_size(batch), 0
    sample, bins = sample_indices(batch, len(labels)), torch.zeros(BINS, 3, dtype=torch.float64)
    sums = torch.zeros(3, samples, dtype=torch.float64)
    chosen = torch.empty_like(labels)
    said = predict_log(batch)
    for scores in (said,) if isinstance(said, Tensor) else said:
        rows = slice(start, start + len(scores))
        found, due = scores.cpu().double(), labels[rows]
        chosen[rows] = found.argmax(-1)
        losses = nll_loss(found, due, reduction="none")
        right = (chosen[rows] == due).double()
        sums.index_add_(1, sample[rows], torch.stack([right, torch.ones_like(right), losses]))
        _fill(bins, found, due)
        start += len(scores)
    classes = [chosen, labels] if batch["labels"].ndim == 1 else [labels[:0], labels[:0]]
    return [*sums, *classes], bins


def _fill(bins: Tensor, found: Float[Tensor, "answer cls"], labels: Int[Tensor, " answer"]) -> None:
    confidence, chosen = found.exp().max(-1)
    place = (confidence.nan_to_num() * BINS).long().clamp(max=BINS - 1)  # of what overflowed, the error is no number
    bins.index_add_(0, place, torch.stack([torch.ones_like(confidence), confidence, (chosen == labels).double()], -1))
