"""How sure a measurement is, and a difference between two models on the same samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest, bootstrap, permutation_test

from transfuse.evaluation.metrics import Predictions

RESAMPLES = 2000
AT_ONCE = 50  # resamples, for want of memory
Interval = tuple[float, float]


@dataclass(frozen=True)
class Intervals:
    """Where accuracy and loss lie, at 95 %; None where a single sample says nothing of it.

    Of a classifier's accuracy, Wilson's interval (1927), which knows that all right of seven is not certainty; else
    percentiles of a bootstrap over samples (Efron, 1979). Samples are drawn, not answers: the words of one text are
    not independent of each other.
    """

    accuracy: Interval | None
    loss: Interval | None


@dataclass(frozen=True)
class Difference:
    """How one model differs from another on the same samples: accuracy and loss, and their 95 % intervals.

    Attributes:
        accuracy_p: of the exact McNemar test, of classifiers; None: of what is none.
        loss_p: of the permutation test that exchanges the two models sample by sample; 2 / 2001 is its least.
    """

    accuracy: float
    accuracy_interval: Interval | None
    accuracy_p: float | None
    loss: float
    loss_interval: Interval | None
    loss_p: float


def intervals(found: Predictions, seed: int = 0) -> Intervals:
    """How sure the metrics of one model are."""
    count = found.asked.numpy()
    right, loss = (_interval(_ratio, (values.numpy(), count), seed) for values in (found.right, found.loss))
    return Intervals(_wilson(found) if len(found.wanted) > 1 else right, loss)


def difference(ours: Predictions, theirs: Predictions, seed: int = 0) -> Difference:
    """Ours less theirs. Both were asked the same of the same samples, in the same order."""
    counts = ours.asked.numpy(), theirs.asked.numpy()
    accuracy, loss = (
        (mine.numpy(), counts[0], other.numpy(), counts[1])
        for mine, other in ((ours.right, theirs.right), (ours.loss, theirs.loss))
    )
    return Difference(
        float(_gap(*accuracy)),
        _interval(_gap, accuracy, seed),
        _mcnemar(ours, theirs),
        float(_gap(*loss)),
        _interval(_gap, loss, seed),
        _exchanged(loss[0], loss[2], seed),
    )


def _ratio(sums: Any, counts: Any, axis: int = -1) -> Any:
    return sums.sum(axis) / np.maximum(counts.sum(axis), 1e-12)


def _gap(ours: Any, our_count: Any, theirs: Any, their_count: Any, axis: int = -1) -> Any:
    return _ratio(ours, our_count, axis) - _ratio(theirs, their_count, axis)


def _wilson(found: Predictions) -> Interval:
    interval = binomtest(int(found.right.sum()), len(found.right)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _interval(statistic: Any, data: Sequence[Any], seed: int) -> Interval | None:
    if len(data[0]) < 2:
        return None
    found = bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=AT_ONCE,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def _mcnemar(ours: Predictions, theirs: Predictions) -> float | None:
    """Two-sided, exact: among samples that one model alone has right, both are equally often the one (1947)."""
    if not len(ours.wanted) or not len(theirs.wanted):
        return None
    better, worse = (int((a.right > b.right).sum()) for a, b in ((ours, theirs), (theirs, ours)))
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _exchanged(ours: Any, theirs: Any, seed: int) -> float:
    if len(ours) < 2 or np.array_equal(ours, theirs):
        return 1.0
    found = permutation_test(
        (ours, theirs),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=AT_ONCE,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)
