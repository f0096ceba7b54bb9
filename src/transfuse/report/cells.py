"""Values of metrics as cells of the report's tables."""

from math import isnan

from transfuse.base.shown_number import shown_number
from transfuse.evaluation.measures import IN_NATS, MEASURES
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
    if MEASURES[measure].form.endswith("%"):
        return shown_number(value, f"{sign}.1%")
    return shown_number(value, sign + (".1f" if measure == "perplexity" else ".3f"))


def metric_interval(interval: Interval | None, measure: str, sign: str = "") -> str:
    """Return an interval in the unit of its metric; nothing for one that is not known.

    Args:
        sign: "+" for differences.
    """
    if interval is None:
        return ""
    low, high = (metric_value(bound, measure, sign).removesuffix("%") for bound in interval)
    return f"[{low}, {high}]"
