"""Values of metrics as cells of the report's tables."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

from transfuse.evaluation.measures import IN_NATS, MEASURES, shown_value

if TYPE_CHECKING:
    from transfuse.evaluation.statistics import Interval


def metric_title(measure: str) -> str:
    """Return the title of a column, with the unit of a loss."""
    return MEASURES[measure].title + (" (nats)" if measure in IN_NATS else "")


def metric_value(value: float, measure: str, sign: str = "") -> str:
    """Return a value as the report shows it; nothing for a value that is not a number.

    Args:
        sign: "+" for differences.
    """
    if isnan(value):
        return ""
    return shown_value(value, measure, sign + MEASURES[measure].digits)


def metric_interval(interval: Interval | None, measure: str, sign: str = "") -> str:
    """Return an interval in the unit of its metric; nothing for one that is not known.

    Args:
        sign: "+" for differences.
    """
    if interval is None:
        return ""
    low, high = (metric_value(bound, measure, sign).removesuffix("%") for bound in interval)
    return f"[{low}, {high}]"
