"""Confidence intervals of metrics, and tests of the difference between two models on the same samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, isnan, nan
from typing import Any

import numpy as np
import scipy  # which imports `scipy.stats` when it is used

from transfuse.evaluation.measures import MEASURES, NEAR_ZERO
from transfuse.evaluation.metrics import Predictions, Score, perplexity

RESAMPLES = 2000
RESAMPLES_AT_ONCE = 50  # limits the memory
ROUNDING = 1e-4  # relative difference of losses that rounding explains
TIE_DIGITS = 6  # of a difference, in units of the one that is tested; the order of a sum changes those behind
Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """95% confidence intervals of one model's metrics; None for a single sample.

    The accuracy of a classifier has Wilson's score interval (1927), which is not empty if all samples are correct.
    Other intervals are percentiles of a bootstrap (Efron, 1979). It draws samples, not tokens, because the tokens of
    one text are not independent of each other.
    """

    accuracy: Interval | None
    loss: Interval | None
    scores: Mapping[str, Interval | None] = field(default_factory=dict)

    def interval(self, measure: str) -> Interval | None:
        """Return the interval of a metric; None for one without an interval."""
        attribute = MEASURES[measure].attribute
        if attribute == "perplexity":
            return None if self.loss is None else (perplexity(self.loss[0]), perplexity(self.loss[1]))
        return self.scores.get(measure) if attribute is None else getattr(self, attribute, None)


@dataclass(frozen=True)
class ScoreDifference:
    """The difference of two models in one of `Metrics.scores`.

    Attributes:
        value: the difference.
        interval: its 95% confidence interval; None for a single sample.
        p: p-value of a permutation test that swaps the two models' answers sample by sample. NaN if the value is.
    """

    value: float
    interval: Interval | None
    p: float


@dataclass(frozen=True)
class Difference:
    """The difference of two models on the same samples, with 95% confidence intervals.

    Attributes:
        accuracy: difference in [-1, 1]; NaN, as the loss, if the models do not predict as often.
        accuracy_interval: its interval; None for a single sample.
        accuracy_p: p-value of the exact McNemar test of classifiers, and of the permutation test of other models. It is
            NaN if the difference is.
        loss: difference, in the unit of the loss.
        loss_interval: its interval; None for a single sample.
        loss_p: p-value of the permutation test that swaps the two models' losses per sample. It is at least 2 / 2001.
            Losses that differ by rounding alone are ties.
        scores: differences of further metrics, by name.
    """

    accuracy: float
    accuracy_interval: Interval | None
    accuracy_p: float
    loss: float
    loss_interval: Interval | None
    loss_p: float
    scores: Mapping[str, ScoreDifference] = field(default_factory=dict)

    def of(self, measure: str) -> ScoreDifference:
        """Return the difference of a metric. Perplexity is compared by loss."""
        attribute = MEASURES[measure].attribute
        if attribute is None:
            return self.scores[measure]
        if attribute == "accuracy":
            return ScoreDifference(self.accuracy, self.accuracy_interval, self.accuracy_p)
        return ScoreDifference(self.loss, self.loss_interval, self.loss_p)


def intervals(model: Predictions, seed: int = 0) -> Intervals:
    """Return the confidence intervals of a model's metrics."""
    counts = model.counts.numpy()
    accuracy, loss = (_interval(_mean, (sums.numpy(), counts), seed) for sums in (model.correct, model.loss))
    scores = {name: _interval(score.of, _arrays(score), seed) for name, score in model.scores.items()}
    has_wilson = len(model.labels) > 1 and not model.unknown
    return Intervals(_wilson_interval(model) if has_wilson else accuracy, loss, scores)


def difference(first: Predictions, second: Predictions, seed: int = 0, near_zero: bool = True) -> Difference:
    """Return the first model's metrics minus the second's. Losses of a sample that differ by rounding alone are ties.

    Accuracy and loss are NaN, without intervals and tests, if the models do not predict as often: means over the tokens
    of one tokenizer say nothing about those of another.

    Args:
        first: predictions of one model.
        second: predictions of the other, on the same samples in the same order.
        seed: seed of the resampling.
        near_zero: whether losses near zero are ties if they differ by less than `NEAR_ZERO` for each prediction.
    """
    scores = {
        name: _score_difference(score, second.scores[name], seed)
        for name, score in first.scores.items()
        if name in second.scores
    }
    if not predicts_as_often(first, second):
        return Difference(nan, None, nan, nan, None, nan, scores)
    counts = (first.counts.numpy(), second.counts.numpy())
    accuracy = (first.correct.numpy(), counts[0], second.correct.numpy(), counts[1])
    loss = (first.loss.numpy(), counts[0], _without_rounding(first, second, near_zero), counts[1])
    change, loss_change = float(_difference_of_means(*accuracy)), float(_difference_of_means(*loss))
    are_classes = len(first.labels) and len(second.labels)
    return Difference(
        change,
        _interval(_difference_of_means, accuracy, seed),
        _mcnemar_p(first, second) if are_classes else _permutation_p(_difference_of_means, accuracy, change, seed),
        loss_change,
        _interval(_difference_of_means, loss, seed),
        _permutation_p(_difference_of_means, loss, loss_change, seed),
        scores,
    )


def predicts_as_often(first: Predictions, second: Predictions) -> bool:
    """Return whether two models predict equally many tokens or words of every sample."""
    return bool(first.counts.equal(second.counts))


def _without_rounding(first: Predictions, second: Predictions, near_zero: bool) -> Any:
    """Return the second model's summed losses of samples, or the first's where both differ by rounding alone.

    In float32, logits of two models that compute the same, in different bases, differ by about 1e-5. The loss differs
    by as much, relative to itself if it is small. A loss near zero also has the error of what it is the difference of,
    such as logarithms, about 1e-6 for each prediction.
    """
    losses = first.loss.numpy(), second.loss.numpy()
    rounding = ROUNDING * np.abs(losses[0]) + (NEAR_ZERO * first.counts.numpy() if near_zero else 0.0)
    return np.where(np.abs(losses[0] - losses[1]) <= rounding, *losses)


def _score_difference(first: Score, second: Score, seed: int) -> ScoreDifference:
    count = len(first.columns)
    data = (*_arrays(first), *_arrays(second))

    def difference_of(*columns: Any, axis: int = -1) -> Any:
        return first.of(*columns[:count]) - first.of(*columns[count:])

    value = float(difference_of(*data))
    p = _permutation_p(difference_of, data, value, seed)
    return ScoreDifference(value, _interval(difference_of, data, seed), p)


def _permutation_p(difference_of: Any, data: Sequence[Any], value: float, seed: int) -> float:
    """Return the p-value of the test that swaps the answers of two models sample by sample (Noreen, 1989).

    It is NaN if the difference is, which is no more extreme than another.

    Args:
        difference_of: returns the difference of columns [..., sample]: those of the first model, then the second's.
        value: the difference without swaps.
    """
    if isnan(value):
        return nan
    half, count = len(data) // 2, len(data[0])
    if count < 2:
        return 1.0
    scale = value if value and isfinite(value) else 1.0

    def swapped(swap: Any, others: Any, axis: int) -> Any:
        firsts = [np.where(swap, data[index + half], data[index]) for index in range(half)]
        seconds = [np.where(swap, data[index], data[index + half]) for index in range(half)]
        return np.round(difference_of(*firsts, *seconds) / scale, TIE_DIGITS)

    test = scipy.stats.permutation_test(
        (np.zeros(count, int), np.ones(count, int)),  # the model whose answers stand first, and the other one
        swapped,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=RESAMPLES_AT_ONCE,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _arrays(score: Score) -> tuple[Any, ...]:
    return tuple(np.asarray(column) for column in score.columns)


def _mean(sums: Any, counts: Any, axis: int = -1) -> Any:
    return sums.sum(axis) / np.maximum(counts.sum(axis), 1e-12)


def _difference_of_means(first: Any, first_counts: Any, second: Any, second_counts: Any, axis: int = -1) -> Any:
    return _mean(first, first_counts, axis) - _mean(second, second_counts, axis)


def _wilson_interval(model: Predictions) -> Interval:
    interval = scipy.stats.binomtest(int(model.correct.sum()), len(model.correct)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _interval(statistic: Any, data: Sequence[Any], seed: int) -> Interval | None:
    if len(data[0]) < 2 or any(np.isnan(column).any() for column in data):
        return None
    interval = scipy.stats.bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=RESAMPLES_AT_ONCE,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _mcnemar_p(first: Predictions, second: Predictions) -> float:
    """Return the two-sided p-value of the exact McNemar test (1947).

    Under the null hypothesis, a sample that only one of the two models predicts correctly is equally likely to be
    either model's. Nothing is known of models whose outputs are not numbers.
    """
    if first.unknown or second.unknown:
        return nan
    only_first = int((first.correct > second.correct).sum())
    only_second = int((second.correct > first.correct).sum())
    discordant = only_first + only_second
    return float(scipy.stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0
