"""Confidence intervals of metrics, and tests of the difference between two models on the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, bootstrap, permutation_test

from transfuse.evaluation.metrics import Predictions

RESAMPLES = 2000
RESAMPLES_AT_ONCE = 50  # limits the memory
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


@dataclass(frozen=True)
class Difference:
    """The difference of two models on the same samples, with 95% confidence intervals.

    Attributes:
        accuracy: difference in [-1, 1].
        accuracy_interval: its interval; None for a single sample.
        accuracy_p: p-value of the exact McNemar test; None if a model is no classifier.
        loss: difference in nats.
        loss_interval: its interval; None for a single sample.
        loss_p: p-value of the permutation test that swaps the two models' losses per sample. It is at least 2 / 2001.
    """

    accuracy: float
    accuracy_interval: Interval | None
    accuracy_p: float | None
    loss: float
    loss_interval: Interval | None
    loss_p: float


def intervals(model: Predictions, seed: int = 0) -> Intervals:
    """Return the confidence intervals of a model's metrics."""
    counts = model.counts.numpy()
    accuracy, loss = (_interval(_mean, (sums.numpy(), counts), seed) for sums in (model.correct, model.loss))
    return Intervals(_wilson_interval(model) if len(model.labels) > 1 else accuracy, loss)


def difference(first: Predictions, second: Predictions, seed: int = 0) -> Difference:
    """Return the first model's metrics minus the second's.

    Args:
        first: predictions of one model.
        second: predictions of the other, on the same samples in the same order.
        seed: seed of the resampling.
    """
    counts = (first.counts.numpy(), second.counts.numpy())
    accuracy = (first.correct.numpy(), counts[0], second.correct.numpy(), counts[1])
    loss = (first.loss.numpy(), counts[0], second.loss.numpy(), counts[1])
    return Difference(
        float(_difference_of_means(*accuracy)),
        _interval(_difference_of_means, accuracy, seed),
        _mcnemar_p(first, second),
        float(_difference_of_means(*loss)),
        _interval(_difference_of_means, loss, seed),
        _permutation_p(loss[0], loss[2], seed),
    )


def _mean(sums: Any, counts: Any, axis: int = -1) -> Any:
    return sums.sum(axis) / np.maximum(counts.sum(axis), 1e-12)


def _difference_of_means(first: Any, first_counts: Any, second: Any, second_counts: Any, axis: int = -1) -> Any:
    return _mean(first, first_counts, axis) - _mean(second, second_counts, axis)


def _wilson_interval(model: Predictions) -> Interval:
    interval = binomtest(int(model.correct.sum()), len(model.correct)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _interval(statistic: Any, data: Sequence[Any], seed: int) -> Interval | None:
    if len(data[0]) < 2:
        return None
    interval = bootstrap(
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


def _mcnemar_p(first: Predictions, second: Predictions) -> float | None:
    """Return the two-sided p-value of the exact McNemar test (1947).

    Under the null hypothesis, a sample that only one of the two models predicts correctly is equally likely to be
    either model's.
    """
    if not len(first.labels) or not len(second.labels):
        return None
    only_first = int((first.correct > second.correct).sum())
    only_second = int((second.correct > first.correct).sum())
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def _permutation_p(first: Any, second: Any, seed: int) -> float:
    if len(first) < 2 or np.array_equal(first, second):
        return 1.0
    test = permutation_test(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=RESAMPLES_AT_ONCE,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)
