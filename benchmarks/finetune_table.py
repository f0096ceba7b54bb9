"""The table of `finetune.py`: mean and standard deviation over groups of equally many parents, on the test split.

python benchmarks/finetune_table.py --name cifar10
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from statistics import mean, stdev
from typing import Any

from common import RESULTS

ORDER = ("parent, trained on", "plain average", "flow, soft", "flow, hard", "uniform plan", "exact")


def spread(values: Iterable[float], digits: int = 1, factor: float = 100) -> str:
    found = [factor * value for value in values]
    return f"{mean(found):.{digits}f}" + (f" ± {stdev(found):.{digits}f}" if len(found) > 1 else "")


def cells(metrics: list[dict[str, Any]]) -> str:
    return f"{spread(each['accuracy'] for each in metrics)} | {spread((each['loss'] for each in metrics), 3, 1)}"


def table(groups: list[dict[str, Any]], split: str) -> str:
    """Markdown: every arm before and after, beside the parents and their ensemble."""
    best = [
        min(group["parents"], key=lambda parent: parent["validation"]["loss"])[split] for group in groups
    ]  # fmt: skip
    rows = [
        "| | one shot: accuracy (%) | loss | fine-tuned: accuracy (%) | loss | over the parent trained on |",
        "|---|---|---|---|---|---|",
        f"| best parent | {cells(best)} | | | |",
        f"| ensemble | {cells([group['ensemble'][split] for group in groups])} | | | |",
    ]
    arms = [arm for arm in groups[0]["arms"] if all(arm in group["arms"] for group in groups)]
    arms.sort(key=lambda arm: (", taught" in arm, ORDER.index(arm.partition(", taught")[0])))
    control = [group["arms"][ORDER[0]]["after"][split]["accuracy"] for group in groups]
    for arm in arms:
        found = [group["arms"][arm] for group in groups]
        before, after = ([each[when][split] for each in found] for when in ("before", "after"))
        gain = [each["accuracy"] - other for each, other in zip(after, control, strict=True)]
        rows.append(f"| {arm} | {cells(before)} | {cells(after)} | {spread(gain)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="cifar10")
    parser.add_argument("--split", default="test")
    args = parser.parse_args()
    by_size: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for file in sorted((RESULTS / "finetune").glob(f"{args.name}-[0-9]*.json")):
        found = json.loads(file.read_text())
        by_size[len(found["seeds"])].append(found)
    for size, groups in sorted(by_size.items()):
        seeds = ", ".join("(" + ", ".join(group["seeds"]) + ")" for group in groups)
        settings = groups[0]["settings"]
        print(f"\n{size} parents, groups {seeds}; {settings['epochs']:g} epochs\n")
        print(table(groups, args.split))


if __name__ == "__main__":
    main()
