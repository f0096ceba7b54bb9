"""Show the results of `fuse.py`: tables, fitted growth and a plot, `results/fuse.png`.

python benchmarks/fuse_plot.py
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from common import RESULTS
from matplotlib import pyplot
from matplotlib.axes import Axes
from rich.console import Console
from rich.table import Table

COLORS = {
    "floor": "C7", "floor, weights": "C8", "average": "C3", "flow, weights": "C5", "flow": "C1",
    "exact, weights": "C2", "exact": "C0", "exact, least squares": "C4",
}  # fmt: skip
STAGES = {
    "reading": "reading", "looking": "statistics", "aligning": "aligning", "merging": "merging", "writing": "writing",
    "rest": "other",
}  # fmt: skip
"""By stage in the record, its label."""
HEADS = ("width", "layers", "method", "seconds", "times the floor", "peak (GB)", *STAGES.values())
Rows = list[dict[str, Any]]


def by(rows: Rows, method: str, size: str) -> Rows:
    """Return the rows of a method sorted by `size`, at the value of the other size that has the most rows."""
    other = {"width": "layers", "layers": "width"}[size]
    mine = [row for row in rows if row["way"] == method and "seconds" in row]
    values = [row[other] for row in mine]
    most = max(values, key=lambda value: len({row[size] for row in mine if row[other] == value}), default=None)
    return sorted((row for row in mine if row[other] == most), key=lambda row: row[size])


def growth(rows: Rows, method: str, size: str, what: str) -> dict[str, float] | None:
    """Return the exponent of growth, fitted by least squares in logarithms, and the typical factor of deviation.

    Memory excludes that of Python, torch and transformers.
    """
    blank = min((row["peak"] for row in rows if row["way"] == "blank"), default=0) if what == "peak" else 0
    points = [(row[size], row[what] - blank) for row in by(rows, method, size) if row[what] > blank]
    if len(points) < 3:
        return None
    x, y = np.log(np.array(points, dtype=float)).T
    slope, start = np.polyfit(x, y, 1)
    off = float(np.exp(np.sqrt(np.mean((start + slope * x - y) ** 2))))
    return {"exponent": float(slope), "off_by": off, "points": len(points)}


def exponents(rows: Rows) -> list[dict[str, Any]]:
    """Return the growth of seconds and bytes by width and by layers, for every method."""
    return [
        {"way": method, "by": size, "of": what} | found
        for method in COLORS for size in ("width", "layers") for what in ("seconds", "peak")
        if (found := growth(rows, method, size, what))
    ]  # fmt: skip


def ratio(row: dict[str, Any], rows: Rows) -> float | None:
    """Return the seconds relative to the floor, which includes a forward pass if the method uses samples."""
    floor = "floor" if row["way"] in ("flow", "exact", "exact, least squares", "floor") else "floor, weights"
    same = [r for r in rows if (r["way"], r["width"], r["layers"]) == (floor, row["width"], row["layers"])]
    return row["seconds"] / same[0]["seconds"] if same and "seconds" in same[0] else None


def lines(rows: Rows) -> Iterator[list[str]]:
    """Yield the cells of every row, under HEADS."""
    for row in rows:
        size = [str(row["width"]), str(row["layers"]), row["way"]]
        if "skipped" in row:
            yield [*size, f"skipped: {row['skipped']}", *[""] * (2 + len(STAGES))]
            continue
        stages, over = row.get("stages"), ratio(row, rows)
        shares = [f"{100 * stages[stage] / row['seconds']:.0f} %" if stages else "" for stage in STAGES]
        yield [*size, f"{row['seconds']:.1f}", f"{over:.1f}" if over else "", f"{row['peak'] / 1e9:.2f}", *shares]


def show(name: str, rows: Rows) -> None:
    """Print the tables and write the plot."""
    table = Table(*HEADS)
    for line in lines(rows):
        table.add_row(*line)
    console = Console(width=150)
    console.print(table)
    fitted = Table("method", "quantity", "by", "exponent", "factor of deviation", "points")
    for each in exponents(rows):
        fitted.add_row(
            each["way"], each["of"], each["by"], f"{each['exponent']:.2f}", f"{each['off_by']:.2f}",
            str(each["points"]),
        )  # fmt: skip
    console.print(fitted)
    plot(name, rows)


def plot(name: str, rows: Rows) -> None:
    """Plot seconds and memory by width, and the share of each stage at the largest width of each method."""
    figure, (time, memory, shares) = pyplot.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for axes, what, unit, label in (
        (time, "seconds", 1, "processor seconds"),
        (memory, "peak", 1e9, "peak memory, GB"),
    ):
        for method, color in COLORS.items():
            _line(axes, [(row["width"], row[what] / unit) for row in by(rows, method, "width")], method, color)
        axes.set(xscale="log", yscale="log", xlabel="width", ylabel=label)
        widths = sorted({row["width"] for method in COLORS for row in by(rows, method, "width")})
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.minorticks_off()
    memory.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    figure.legend(*time.get_legend_handles_labels(), frameon=False, fontsize=8, ncols=4, loc="outside upper left")
    widest = {method: found[-1] for method in COLORS if (found := by(rows, method, "width")) and "stages" in found[-1]}
    labels, start = [f"{method}\n(width {row['width']})" for method, row in widest.items()], np.zeros(len(widest))
    for place, (stage, label) in enumerate(STAGES.items()):
        part = np.array([100 * row["stages"][stage] / row["seconds"] for row in widest.values()])
        shares.barh(labels, part, left=start, label=label, color=f"C{place}")
        start += part
    shares.set(xlabel="share of the seconds, %", xlim=(0, 100))
    shares.invert_yaxis()
    shares.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    for axes in (time, memory, shares):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / f"{name}.png", dpi=130)


def _line(axes: Axes, points: list[tuple[float, float]], method: str, color: str) -> None:
    if points:
        style = "--" if method.startswith("floor") else "-"
        axes.plot(*zip(*points, strict=True), style, marker="o", markersize=3.5, label=method, color=color)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="fuse")
    name = parser.parse_args().name
    show(name, json.loads((RESULTS / f"{name}.json").read_text())["rows"])


if __name__ == "__main__":
    main()
