"""The table of `teach.py`, mean and standard deviation over pairs."""

import json
from math import exp
from statistics import mean
from typing import Any

from barrier_table import IMAGES, TEXTS, line
from common import RESULTS, spread

ROWS = ("better parent", "fused", "fused, taught", "anchor, taught (control)", "ensemble")


def table() -> str:
    """The loss over the mean of the parents', and accuracy or perplexity."""
    found = {
        title: [_pair(rows) for rows in json.loads(file.read_text())["pairs"].values()]
        for name, title in (IMAGES | TEXTS).items() if (file := RESULTS / f"teach-{name}.json").exists()
    }  # fmt: skip
    heads = [f"{title} ({len(pairs)} pair{'s' * (len(pairs) > 1)})" for title, pairs in found.items()]
    lines = [line("", heads), f"|{'---|' * (len(found) + 1)}"]
    for row in ROWS:
        lines.append(line(row, [_cell(title, [pair[row] for pair in pairs]) for title, pairs in found.items()]))
    return "\n".join(lines)


def _pair(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """With the parent of less loss, and every loss over their mean."""
    parents = [rows["anchor"], rows["other parent"]]
    rows = rows | {"better parent": min(parents, key=lambda each: each["loss"])}
    middle = mean(each["loss"] for each in parents)
    return {name: each | {"excess": each["loss"] - middle} for name, each in rows.items()}


def _cell(title: str, rows: list[dict[str, Any]]) -> str:
    images = title in IMAGES.values()
    quality = spread((100 * each["accuracy"] if images else exp(each["loss"]) for each in rows), 1)
    return f"{spread(each['excess'] for each in rows)}; {quality}{' %' if images else ''}"
