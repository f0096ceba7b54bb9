"""Make the tables of `teach.py` and `weights.py`: mean and standard deviation over pairs."""

import json
from collections.abc import Sequence
from statistics import mean
from typing import Any

from barrier_table import BETTER, IMAGES, TEXTS, Column, line, with_better
from common import RESULTS

TAUGHT = (BETTER, "fused", "fused, taught", "anchor, taught (control)", "ensemble")
LEARNED = (BETTER, "least-squares", "learned", "anchor, learned (control)", "ensemble")


def table(stem: str, rows: Sequence[str]) -> str:
    """Return a table of the loss minus the mean of the parents' losses, and of the accuracy or perplexity."""
    found = [
        Column(name, [with_excess(pair) for pair in json.loads(file.read_text())["pairs"].values()])
        for name in IMAGES | TEXTS if (file := RESULTS / f"{stem}-{name}.json").exists()
    ]  # fmt: skip
    lines = [line("", [each.title for each in found]), f"|{'---|' * (len(found) + 1)}"]
    return "\n".join([*lines, *(line(row, [_cell(each, row) for each in found]) for row in rows)])


def with_excess(pair: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the rows in the form of `barrier.py`, with the excess loss as the barrier."""
    middle = mean(pair[name]["loss"] for name in ("anchor", "other parent"))
    return with_better({name: {"metrics": each, "barrier": each["loss"] - middle} for name, each in pair.items()})


def _cell(column: Column, row: str) -> str:
    return f"{column.barriers(row)}; {column.qualities(row)}{' %' if column.name in IMAGES else ''}"
