"""Plot the accuracies of parents and fusions, and along the line between the parents.

python benchmarks/picture.py --dataset cifar10

The figures are from `results/methods-DATASET.json`.
"""

import argparse
import json
from statistics import mean

import matplotlib

matplotlib.use("Agg")
from common import RESULTS
from matplotlib import pyplot

BARS = {
    "anchor": "parent A",
    "other parent": "parent B",
    "plain average": "plain average",
    "half the anchor (control)": "half of A (control)",
    "uniform plan (control)": "uniform plan (control)",
    "flow, soft": "transport flow, soft",
    "flow, hard": "transport flow, hard",
    "exact": "exact symmetries",
    "ensemble (twice the cost)": "ensemble of both (2x cost)",
}
CONTROLS = ("half the anchor (control)", "uniform plan (control)")
COLORS = {"plain average": "C7", "flow, soft": "C1", "flow, hard": "C2", "exact": "C0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    dataset = parser.parse_args().dataset
    pairs = json.loads((RESULTS / f"methods-{dataset}.json").read_text())["pairs"]
    rows = {name: [row for pair in pairs.values() for row in pair if row["name"] == name] for name in BARS}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.7), layout="constrained")
    values = [100 * mean(row["metrics"]["accuracy"] for row in rows[name]) for name in BARS]
    bars = left.barh(
        list(BARS.values()), values, color=[COLORS.get(name, "C8" if name in CONTROLS else "C4") for name in BARS]
    )
    left.bar_label(bars, fmt="%.1f", padding=3)
    left.invert_yaxis()
    left.set(xlabel="test accuracy (%)", xlim=(0, max(values) * 1.15))
    for name, color in COLORS.items():
        for index, row in enumerate(rows[name]):
            accuracies = [100 * point["accuracy"] for point in row["line"]["points"]]
            label = BARS[name] if index == 0 else None
            right.plot(row["line"]["positions"], accuracies, color=color, label=label, marker="o", markersize=3)
    right.set(xlabel="parent A → parent B, aligned", ylabel="test accuracy (%)")
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(RESULTS / f"methods-{dataset}.png", dpi=140)


if __name__ == "__main__":
    main()
