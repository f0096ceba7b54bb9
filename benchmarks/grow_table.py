"""Return the table of fusions that grow, and the points of their plot, measured by `grow.py`."""

from statistics import mean
from typing import Any

from common import load
from rows import markdown

ENSEMBLES = {"ensemble, uniform": "ensemble, equal weights", "ensemble, auto": "ensemble, weighted as the default"}


def table(subject: str) -> str:
    """Return losses and accuracies of every row on each kind of test samples; means, if there are several pairs."""
    pairs = list(load(f"grow-{subject}")["pairs"].values())
    kinds = list(pairs[0][0]["test"])
    rows = []
    for same in zip(*pairs, strict=True):
        tests = [row["test"] for row in same]
        cells = [
            f"{mean(test[kind]['loss'] for test in tests):.3f}"
            f" ({100 * mean(test[kind]['accuracy'] for test in tests):.1f} %)"
            for kind in kinds
        ]
        bold = "**" if same[0]["name"] == "fused" else ""
        rows.append([f"{bold}{_name(same[0])}{bold}", f"{same[0]['ratio']:.2f}", *cells, f"{_loss(same):.3f}"])
    return markdown(["test loss (accuracy)", "parameters", *kinds, "mean loss"], rows)


def points(subject: str, name: str) -> list[tuple[float, float]]:
    """Return the ratio of parameters and the mean loss of every row with this name."""
    pairs = list(load(f"grow-{subject}")["pairs"].values())
    same = [rows for rows in zip(*pairs, strict=True) if rows[0]["name"] == name]
    return [(rows[0]["ratio"], _loss(rows)) for rows in same]


def _loss(rows: Any) -> float:
    return mean(mean(kind["loss"] for kind in row["test"].values()) for row in rows)


def _name(row: dict[str, Any]) -> str:
    name = row["name"]
    if name in ENSEMBLES:
        return ENSEMBLES[name]
    if name == "fused":
        return "fusion" if row["ratio"] == 1 else f"fusion that grows, start: {row['course']['start']}"
    if "widened" in name and row["ratio"] == 1:
        return name.replace("widened", "trained (control)")
    return name.replace("widened", "widened by copies and trained (control)")
