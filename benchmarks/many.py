"""Fuse three or more parents, in the anchor's basis and in a common one, by the mean and by least squares.

python benchmarks/many.py --dataset cifar10 --groups 1,2,3 3,4,5 5,1,2 1,2,3,4,5 3,4,5,1,2 5,1,2,3,4
"""

import argparse
import time
from collections import defaultdict
from dataclasses import asdict
from statistics import mean
from typing import Any

import torch
from common import record, spread
from rich.console import Console
from rich.table import Table
from subjects import SUBJECTS, Judge, Subject

from transfuse.fusion.fuse import fuse

METHODS: dict[str, dict[str, Any]] = {
    "plain average": {"align": "none"},
    "exact, anchor's basis": {"basis": "anchor", "merge": "mean"},
    "exact, common basis": {"basis": "common", "merge": "mean"},
    "least squares, anchor's basis": {"basis": "anchor", "merge": "least-squares"},
    "least squares, common basis": {"basis": "common", "merge": "least-squares"},
}


def over_group(subject: Subject, seeds: list[str], samples: int, limit: int) -> dict[str, dict[str, Any]]:
    """Return metrics and seconds by row."""
    models = [subject.model(seed) for seed in seeds]
    judge = Judge(subject, seeds[0], "test", limit)
    parents = [judge.measure(model) for model in models]
    average = {"accuracy": mean(each.accuracy for each in parents), "loss": mean(each.loss for each in parents)}
    found: dict[str, dict[str, Any]] = {"parents, mean": {"metrics": average}}
    for name, options in METHODS.items():
        start = time.perf_counter()
        matching = {} if name == "plain average" else {"match_on": "weights"}
        fusion = fuse(
            models, subject.samples("train"), processor=judge.processor, samples=samples, **matching, **options
        )
        found[name] = {"metrics": asdict(judge.measure(fusion.model)), "seconds": time.perf_counter() - start}
        print(seeds, name, round(found[name]["metrics"]["accuracy"], 4), flush=True)
    found["ensemble"] = {"metrics": asdict(judge.ensemble(models))}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", choices=SUBJECTS)
    parser.add_argument("--groups", nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--limit", type=int, default=4000, help="test samples")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    groups = {
        group: over_group(SUBJECTS[args.dataset], group.split(","), args.samples, args.limit) for group in args.groups
    }
    by_size: dict[int, list[dict[str, dict[str, Any]]]] = defaultdict(list)
    for group, rows in groups.items():
        by_size[len(group.split(","))].append(rows)
    table = Table("model", *(f"{size} parents: {key}" for size in by_size for key in ("accuracy", "loss")))
    for name in next(iter(groups.values())):
        cells = []
        for each in by_size.values():
            for key in ("accuracy", "loss"):
                values = [rows[name]["metrics"][key] for rows in each]
                cells.append(spread(values))
        table.add_row(name, *cells)
    Console(width=140).print(table)
    record(f"many-{args.dataset}", {"groups": groups})


if __name__ == "__main__":
    main()
