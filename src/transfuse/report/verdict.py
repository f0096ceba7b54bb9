"""How good a fused model is, in a sentence or two."""

from transfuse.evaluation.statistics import Difference
from transfuse.report.facts import Measurement, Row
from transfuse.report.measure import PLAIN

UNMEASURED = "Not measured: there were no samples with answers to measure on. Give some with --data."


def verdict(found: Measurement | None) -> str:
    """Return how the fused model compares with its parents, and what to do."""
    if found is None:
        return UNMEASURED
    parents, (fusion,) = sorted(found.of("parent"), key=lambda row: _value(found, row)), found.of("fusion")
    worst, best = parents[0], parents[-1]
    said = f"The fused model reaches {_said(found, fusion)}, {_place(found, fusion, worst, best)}"
    plain = next((row for row in found.rows if row.name == PLAIN), None)
    if plain is None:
        return said + "."
    if _value(found, plain) >= _value(found, fusion):
        return said + f"; the plain average ({_said(found, plain)}) is as good, so the alignment gained nothing here."
    return said + f". The plain average reaches {_said(found, plain)}."


def _place(found: Measurement, fusion: Row, worst: Row, best: Row) -> str:
    value, low, high = (_value(found, row) for row in (fusion, worst, best))
    if value < low:
        apart = found.against[worst.name]
        if not _apart(found, apart):
            return f"below the weaker parent ({_said(found, worst)}); the difference is within sampling error"
        return f"below the weaker parent ({_said(found, worst)}); fine-tuning may help"
    if value <= high:
        return f"between its parents ({_said(found, worst)} and {_said(found, best)})"
    sure = "" if _apart(found, found.against[best.name]) else "; the difference is within sampling error"
    return f"above the best parent ({_said(found, best)}){sure}"


def _apart(found: Measurement, difference: Difference) -> bool:
    """Whether the interval of the difference leaves out zero."""
    interval = difference.loss_interval if _speaks(found) else difference.accuracy_interval
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _speaks(found: Measurement) -> bool:
    """Whether these are language models, which are judged by loss."""
    return "perplexity" in found.measures


def _value(found: Measurement, row: Row) -> float:
    """The higher, the better."""
    return -row.metrics.loss if _speaks(found) else row.metrics.accuracy


def _said(found: Measurement, row: Row) -> str:
    metrics = row.metrics
    return f"a perplexity of {metrics.perplexity:.1f}" if _speaks(found) else f"{metrics.accuracy:.1%} accuracy"
