"""A verdict on a fused model in one or two sentences."""

from transfuse.evaluation.measures import MEASURES
from transfuse.evaluation.statistics import Difference
from transfuse.report.facts import Measurement, Row
from transfuse.report.measure import PLAIN

UNMEASURED = "Not measured: there were no samples that fit the models. Pass some with --data."


def verdict(measured: Measurement | None) -> str:
    """Return how the fused model compares with its parents and with the plain average."""
    if measured is None:
        return UNMEASURED
    parents = sorted(measured.of("parent"), key=measured.quality)
    (fusion,) = measured.of("fusion")
    rank = _rank(measured, fusion, worst=parents[0], best=parents[-1])
    subject = "The fused model" if measured.labeled else "Without labels, the fused model"
    text = f"{subject} reaches {measured.phrase(fusion)}, {rank}"
    plain = next((row for row in measured.rows if row.name == PLAIN), None)
    if plain is None:
        return text + "."
    if measured.quality(plain) >= measured.quality(fusion):
        plain_metric = measured.phrase(plain)
        useless = "the alignment" if measured.aligned else "this way of merging"
        return text + f"; the plain average ({plain_metric}) is as good, so {useless} gained nothing here."
    return text + f". The plain average reaches {measured.phrase(plain)}."


def _rank(measured: Measurement, fusion: Row, worst: Row, best: Row) -> str:
    """Return a phrase that compares the fusion with its weakest and its best parent."""
    quality, low, high = (measured.quality(row) for row in (fusion, worst, best))
    under, over = ("worse than", "better than") if MEASURES[measured.headline].lower_is_better else ("below", "above")
    if _is_equal(measured, fusion, best):
        return f"as good as the best parent ({measured.phrase(best)})"
    if _is_equal(measured, fusion, worst):
        return f"no better than the weaker parent ({measured.phrase(worst)})"
    if quality < low:
        weaker = f"{under} the weaker parent ({measured.phrase(worst)})"
        if not _is_significant(measured, measured.against[worst.name]):
            return f"{weaker}; the difference is within sampling error"
        return f"{weaker}; fine-tuning may help" if measured.labeled else weaker
    if quality < high:
        return f"between its parents ({measured.phrase(worst, best)})"
    significant = _is_significant(measured, measured.against[best.name])
    suffix = "" if significant else "; the difference is within sampling error"
    return f"{over} the best parent ({measured.phrase(best)}){suffix}"


def _is_significant(measured: Measurement, difference: Difference) -> bool:
    """Return whether the confidence interval of the difference excludes zero."""
    interval = difference.of(measured.headline).interval
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _is_equal(measured: Measurement, one: Row, other: Row) -> bool:
    """Return whether two models have the same metric, as it is shown."""
    return measured.phrase(one) == measured.phrase(other)
