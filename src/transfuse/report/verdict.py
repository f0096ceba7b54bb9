"""A verdict on a fused model in one or two sentences, and what it is compared with."""

from collections.abc import Mapping
from math import isnan
from typing import Any

from transfuse.evaluation.measures import MEASURES, are_equal, loss_measure
from transfuse.evaluation.statistics import Difference
from transfuse.report.facts import Measurement, Row
from transfuse.report.measure import PLAIN, UNIFORM

UNMEASURED = "Not measured: there were no samples that fit the models. Pass some with --data."

CONTROLS = {
    PLAIN: "The plain average does not match the units.",
    UNIFORM: "The uniform plan ignores the units.",
}


def controls_note(measured: Measurement, record: Mapping[str, Any]) -> str:
    """Return sentences on what the fused model should be better than, and on what each control is.

    Args:
        record: the content of `transfuse.json`.
    """
    controls = [row.name for row in measured.of("control")]
    is_plain = record["options"]["align"] == "none" and record["merge"] == "mean"
    sentences = ["This fusion is a plain average."] if is_plain else []
    if controls:
        sentences.append(f"A fusion is useful if it is better than its control{'s' if len(controls) > 1 else ''}.")
    explained = (CONTROLS.get(name, f"{name.capitalize()} ignores the other models.") for name in controls)
    return " ".join([*sentences, *explained])


def verdict(measured: Measurement | None) -> str:
    """Return how the fused model compares with its parents and with the plain average."""
    if measured is None:
        return UNMEASURED
    (fusion,) = measured.of("fusion")
    subject = "The fused model" if measured.labeled else "Without labels, the fused model"
    unknown = [row.name for row in (fusion, *measured.of("parent")) if isnan(_quality(measured, row))]
    if unknown:
        names = ", ".join(unknown)
        return f"{subject} cannot be ranked, because some outputs are not numbers. Models without scores: {names}."
    parents = sorted(measured.of("parent"), key=lambda row: _quality(measured, row))
    rank = _rank(measured, fusion, worst=parents[0], best=parents[-1])
    text = f"{subject} reaches {_phrase(measured, fusion)}, {rank}"
    plain = next((row for row in measured.rows if row.name == PLAIN), None)
    return text + (f"{_beside_plain(measured, fusion, plain)}." if plain else ".")


def _beside_plain(measured: Measurement, fusion: Row, plain: Row) -> str:
    """Return how the plain average compares with the fusion. Of equal models, that with a lower loss is better."""
    metric = _phrase(measured, plain)
    if isnan(_quality(measured, plain)):
        return ". The plain average has no score, because some outputs are not numbers"
    nothing = f"so {'the alignment' if measured.aligned else 'this way of merging'} gained nothing here"
    if not _is_equal(measured, fusion, plain):
        if _quality(measured, plain) > _quality(measured, fusion):
            return f"; the plain average ({metric}) is better, {nothing}"
        return f". The plain average reaches {metric}"
    loss = loss_measure(measured.measures)
    if _is_equal(measured, fusion, plain, loss):
        return f"; the plain average ({metric}) is as good, {nothing}"
    own, other = (measured.phrase(row, measure=loss) for row in (fusion, plain))
    if measured.quality(plain, loss) > measured.quality(fusion, loss):
        return f"; the plain average also reaches {metric}, with {other} instead of {own}, {nothing}"
    return f". The plain average also reaches {metric}, but with {other} instead of {own}"


def _rank(measured: Measurement, fusion: Row, worst: Row, best: Row) -> str:
    """Return a phrase that compares the fusion with its weakest and its best parent."""
    quality, low, high = (_quality(measured, row) for row in (fusion, worst, best))
    under, over = ("worse than", "better than") if MEASURES[measured.ranking].lower_is_better else ("below", "above")
    if _is_equal(measured, fusion, best):
        return f"as good as the best parent ({_phrase(measured, best)})"
    if _is_equal(measured, fusion, worst):
        return f"no better than the weaker parent ({_phrase(measured, worst)})"
    if quality < low:
        weaker = f"{under} the weaker parent ({_phrase(measured, worst)})"
        if not _is_significant(measured, measured.against[worst.name]):
            return f"{weaker}; the difference is within sampling error"
        return f"{weaker}; fine-tuning may help" if measured.labeled else weaker
    if quality < high:
        return f"between its parents ({_phrase(measured, worst, best)})"
    significant = _is_significant(measured, measured.against[best.name])
    suffix = "" if significant else "; the difference is within sampling error"
    return f"{over} the best parent ({_phrase(measured, best)}){suffix}"


def _quality(measured: Measurement, row: Row) -> float:
    return measured.quality(row, measured.ranking)


def _phrase(measured: Measurement, *rows: Row) -> str:
    return measured.phrase(*rows, measure=measured.ranking)


def _is_significant(measured: Measurement, difference: Difference) -> bool:
    """Return whether the confidence interval of the difference excludes zero."""
    interval = difference.of(measured.ranking).interval
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _is_equal(measured: Measurement, one: Row, other: Row, measure: str | None = None) -> bool:
    """Return whether two models have the same metric, as it is shown: the one that ranks, or another one."""
    measure = measure or measured.ranking
    return are_equal(measure, one.metrics.value(measure), other.metrics.value(measure))
