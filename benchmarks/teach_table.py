"""The table of `teach.py`, mean and standard deviation over pairs."""

import json
from statistics import mean
from typing import Any

from barrier_table import BETTER, IMAGES, TEXTS, Column, line, with_better
from common import RESULTS

ROWS = (BETTER, "fused", "fused, taught", "anchor, taught (control)", "ensemble")


def table() -> str:
    """The loss over the mean of the parents', and accuracy or perplexity."""
    found = [
        Column(name, [_rows(pair) for pair in json.loads(file.read_text())["pairs"].values()])
        for name in IMAGES | TEXTS if (file := RESULTS / f"teach-{name}.json").exists()
    ]  # fmt: skip
    lines = [line("", [each.title for each in found]), f"|{'---|' * (len(found) + 1)}"]
    return "\n".join([*lines, *(line(row, [_cell(each, row) for each in found]) for row in ROWS)])


def _rows(pair: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """As those of `barrier.py`."""
    middle = mean(pair[name]["loss"] for name in ("anchor", "other parent"))
    return with_better({name: {"metrics": each, "barrier": each["loss"] - middle} for name, each in pair.items()})


def _cell(column: Column, row: str) -> str:
    return f"{column.barriers(row)}; {column.qualities(row)}{' %' if column.name in IMAGES else ''}"
