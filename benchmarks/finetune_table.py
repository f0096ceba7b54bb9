"""Make the tables of `finetune.py` and a plot of them, `results/finetune-NAME.png`.

python benchmarks/finetune_table.py --name cifar10

Figures are means and standard deviations over groups with the same number of parents, on the test split.
"""

import argparse
import json
from collections import defaultdict
from statistics import mean
from typing import Any

import matplotlib
from common import RESULTS, spread

matplotlib.use("Agg")
from matplotlib import pyplot

ORDER = ("parent, trained on", "plain average", "flow, soft", "flow, hard", "uniform plan", "exact")


def cells(metrics: list[dict[str, Any]]) -> str:
    return f"{spread((each['accuracy'] for each in metrics), 1, 100)} | {spread(each['loss'] for each in metrics)}"


def table(groups: list[dict[str, Any]], split: str) -> str:
    """Return a Markdown table of every arm before and after fine-tuning, with the parents and their ensemble."""
    best = [
        min(group["parents"], key=lambda parent: parent["validation"]["loss"])[split] for group in groups
    ]  # fmt: skip
    rows = [
        "| | one shot: accuracy (%) | loss | fine-tuned: accuracy (%) | loss | gain over the parent trained further |",
        "|---|---|---|---|---|---|",
        f"| best parent | {cells(best)} | | | |",
        f"| ensemble | {cells([group['ensemble'][split] for group in groups])} | | | |",
    ]
    arms = shared(groups)
    control = [group["arms"][ORDER[0]]["after"][split]["accuracy"] for group in groups]
    for arm in arms:
        found = [group["arms"][arm] for group in groups]
        before, after = ([each[when][split] for each in found] for when in ("before", "after"))
        gain = [each["accuracy"] - other for each, other in zip(after, control, strict=True)]
        rows.append(f"| {arm} | {cells(before)} | {cells(after)} | {spread(gain, 1, 100)} |")
    return "\n".join(rows)


def shared(groups: list[dict[str, Any]]) -> list[str]:
    """Return the arms that all groups have, in a fixed order."""
    arms = [arm for arm in groups[0]["arms"] if all(arm in group["arms"] for group in groups)]
    return sorted(arms, key=lambda arm: (", taught" in arm, ORDER.index(arm.partition(", taught")[0])))


def plot(found: dict[int, list[dict[str, Any]]], split: str, name: str) -> None:
    """Plot a panel for each number of parents, with bars for each arm and a line for the best parent."""
    figure, panels = pyplot.subplots(
        1, len(found), figsize=(4.6 * len(found), 3.4), layout="constrained", squeeze=False
    )
    for axes, (size, groups) in zip(panels[0], sorted(found.items()), strict=True):
        arms = shared(groups)
        for when, color in (("after", "C0"), ("before", "C7")):
            heights = [100 * mean(group["arms"][arm][when][split]["accuracy"] for group in groups) for arm in arms]
            bars = axes.barh(arms, heights, color=color, label={"after": "fine-tuned", "before": "one shot"}[when])
            if when == "after":
                axes.bar_label(bars, fmt="%.1f", padding=-28, fontsize=8, color="white")
        best = [min(group["parents"], key=lambda parent: parent["validation"]["loss"]) for group in groups]
        axes.axvline(100 * mean(parent[split]["accuracy"] for parent in best), color="k", lw=0.8, label="best parent")
        axes.axvline(100 * mean(group["ensemble"][split]["accuracy"] for group in groups), color="k", lw=0.8, ls=":",
                     label="ensemble")  # fmt: skip
        axes.set(title=f"{size} parents", xlabel=f"{split} accuracy (%)")
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(RESULTS / f"finetune-{name}.png", dpi=140)


def by_size(name: str) -> dict[int, list[dict[str, Any]]]:
    """Return the records of a name by the number of parents."""
    sizes: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for file in sorted((RESULTS / "finetune").glob(f"{name}-[0-9]*.json")):
        found = json.loads(file.read_text())
        sizes[len(found["seeds"])].append(found)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="cifar10")
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    found = by_size(args.name)
    for size, groups in sorted(found.items()):
        seeds = ", ".join("(" + ", ".join(group["seeds"]) + ")" for group in groups)
        settings = groups[0]["settings"]
        print(f"\n{size} parents, groups {seeds}; {settings['epochs']:g} epochs\n")
        print(table(groups, args.split))
    plot(found, args.split, args.name)


if __name__ == "__main__":
    main()
