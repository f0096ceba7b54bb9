"""Names of models in a report, whole and short."""

from collections.abc import Mapping
from typing import Any

from transfuse.base.short_names import short_names
from transfuse.report.facts import Measurement

IN_MEMORY = "in memory"


def parent_name(number: int, path: str) -> str:
    """Return the name of a parent: its role, and where it is. The anchor is number 1."""
    return f"{'anchor' if number == 1 else f'model {number}'}: {path}"


def reference_words(record: Mapping[str, Any]) -> str:
    """Return what a report calls the models that the result is compared with.

    Args:
        record: the content of `transfuse.json`.
    """
    return "the large model" if "shrunk" in record else "the parents"


def row_labels(measured: Measurement) -> dict[str, str]:
    """Return a short label for the name of each row, by that name: parents without the folders that they are in."""
    labels = {row.name: row.name for row in measured.rows}
    parents = [row.name for row in measured.of("parent")]
    paths = [name.partition(": ")[2] for name in parents]
    for name, short in zip(parents, short_names(paths), strict=True):
        labels[name] = f"{name.partition(': ')[0]}: {short}"
    return labels
