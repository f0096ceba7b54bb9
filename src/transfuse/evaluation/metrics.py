"""Predictions of a model, sample by sample, and the metrics that follow from them: accuracy, loss and calibration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, nan
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.evaluation.measures import MEASURES, has_confidence

BINS = 15  # of confidence, as in Guo et al. (2017)
MAX_EXPONENT = 700.0  # its exponential is still finite


@dataclass(frozen=True)
class Metrics:
    """Means over the predictions of a model.

    Attributes:
        accuracy: in [0, 1].
        loss: mean cross-entropy in nats.
        samples: number of predictions: images, texts, or tokens to be predicted.
        calibration_error: expected difference between confidence and accuracy (Guo et al., 1706.04599), over 15 bins
            of equal width of the highest probability.
        scores: further metrics of models that are not classifiers, by name.
    """

    accuracy: float
    loss: float
    samples: int
    calibration_error: float = nan
    scores: Mapping[str, float] = field(default_factory=dict)

    def value(self, measure: str) -> float:
        """Return the metric with a name in `MEASURES`."""
        attribute = MEASURES[measure].attribute
        return self.scores[measure] if attribute is None else float(getattr(self, attribute))

    @property
    def perplexity(self) -> float:
        """The exponential of the loss."""
        return perplexity(self.loss)


def perplexity(loss: float) -> float:
    """Return the exponential of a loss in nats, which is finite."""
    return exp(min(loss, MAX_EXPONENT))


def known_measures(measures: Sequence[str], metrics: Iterable[Metrics]) -> tuple[str, ...]:
    """Return the measures that all metrics have: some tokenizers do not tell which bytes a token stands for."""
    every = list(metrics)
    return tuple(
        name for name in measures if MEASURES[name].attribute is not None or all(name in one.scores for one in every)
    )


def metrics_dict(metrics: Metrics, measures: Sequence[str]) -> dict[str, float]:
    """Return the metrics with these names, the loss and the number of predictions as values that JSON can represent."""
    values = {measure: metrics.value(measure) for measure in measures}
    values |= {"loss": metrics.loss, "samples": metrics.samples}
    return values | ({"calibration_error": metrics.calibration_error} if has_confidence(measures) else {})


@dataclass(frozen=True)
class ClassReport:
    """How well a classifier tells one class from the others; `support` is the number of samples of the class."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Score:
    """A metric that is a function of some numbers per sample, so that it can be computed for samples drawn anew.

    Attributes:
        columns: the numbers, each [sample].
        of: returns the metric of columns [..., sample].
    """

    columns: Sequence[Any]
    of: Callable[..., Any]

    def value(self) -> float:
        """Return the metric of all samples."""
        return float(self.of(*self.columns))


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model, summed per sample. A sample is an image or a text with all its tokens.

    Attributes:
        correct: number of correct predictions of each sample.
        counts: number of predictions of each sample.
        loss: summed cross-entropy of each sample, in nats; NaN if the model's outputs are not numbers.
        bins: for each bin of confidence, the number of predictions, the sum of confidences, and the number of correct
            predictions.
        predicted: the predicted class of each sample; empty if the model is not a classifier.
        labels: the label of each sample; empty if the model is not a classifier.
        scores: further metrics by name.
        reports: how well a model tells each class from the others, if `predicted` and `labels` do not say so.
    """

    correct: Float[Tensor, " sample"]
    counts: Float[Tensor, " sample"]
    loss: Float[Tensor, " sample"]
    bins: Float[Tensor, "bin 3"]
    predicted: Int[Tensor, " sample"]
    labels: Int[Tensor, " sample"]
    scores: Mapping[str, Score] = field(default_factory=dict)
    reports: Mapping[str, ClassReport] = field(default_factory=dict)

    @property
    def unknown(self) -> int:
        """The number of samples for which the model's outputs are not numbers, so that it has no scores."""
        return int(self.loss.isnan().sum())

    def metrics(self) -> Metrics:
        """Return means over all predictions."""
        count = float(self.counts.sum())
        calibration_error = (self.bins[:, 1] - self.bins[:, 2]).abs().sum() / count
        return Metrics(
            float(self.correct.sum()) / count,
            float(self.loss.sum()) / count,
            int(count),
            float(calibration_error),
            {name: score.value() for name, score in self.scores.items()},
        )

    def class_reports(self, names: Mapping[int, str]) -> dict[str, ClassReport]:
        """Return precision, recall and F1 of every class that occurs; empty if the model is not a classifier.

        They are NaN if outputs are not numbers.
        """
        reports = self._class_reports(names) if len(self.labels) else dict(self.reports)
        if not self.unknown:
            return reports
        return {name: ClassReport(nan, nan, nan, report.support) for name, report in reports.items()}

    def _class_reports(self, names: Mapping[int, str]) -> dict[str, ClassReport]:
        from sklearn.metrics import precision_recall_fscore_support  # most commands do without it

        columns = precision_recall_fscore_support(self.labels.numpy(), self.predicted.numpy(), zero_division=0.0)
        classes = torch.cat([self.labels, self.predicted]).unique().tolist()
        return {
            class_title(index, names): ClassReport(float(precision), float(recall), float(f1), int(support))
            for index, precision, recall, f1, support in zip(classes, *columns, strict=True)
        }


def class_title(index: int, names: Mapping[int, str]) -> str:
    """Return the name of a class, with its id if several classes have that name; the id alone if it has none."""
    name = names.get(index, str(index))
    return name if list(names.values()).count(name) < 2 else f"{name} ({index})"


def ratio(sums: Float[Tensor, "*draw sample"], counts: Float[Tensor, "*draw sample"], axis: int = -1) -> Tensor:
    """Return the ratio of two sums over samples."""
    total: Tensor = sums.sum(axis) / counts.sum(axis).clip(1e-12)
    return total
