"""Compare all methods to fuse two parents over disjoint pairs: mean and standard deviation on the test split.

python benchmarks/methods.py --dataset cifar10 --pairs 1,2 3,4
python benchmarks/methods.py --dataset sst2 --pairs 1,2 3,4 5,6
python benchmarks/methods.py --dataset cifar10 --width paper --pairs 1,2 2,1 --samples 500 --limit 1000
python benchmarks/methods.py --dataset warandpeace-llama --pairs 1,2 2,1 --samples 300 --limit 200
"""

import argparse
from dataclasses import asdict
from typing import Any

import torch
from common import record, split, spread
from rich.console import Console
from rich.table import Table
from subjects import SUBJECTS, Judge, Subject

from transfuse.fusion.compare import compare


def over_pair(subject: Subject, seeds: list[str], samples: int | None, limit: int | None) -> list[dict[str, Any]]:
    """Return the rows of one comparison as dictionaries."""
    anchor, source = (subject.model(seed) for seed in seeds)
    judge = Judge(subject, seeds[0], "test", limit)
    options = {"samples": samples} if samples else {}
    found = compare(anchor, source, subject.samples("train"), judge.batches, judge.processor, options=options)
    return [asdict(row) | {"line": asdict(found.paths[row.name]) if row.name in found.paths else None}
            for row in found.rows]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--width", default="128", help="a number, or `paper` for ready parents of the paper's size")
    parser.add_argument("--pairs", nargs="+", default=["1,2", "3,4"])
    parser.add_argument("--samples", type=int, default=None, help="default: the default of each method")
    parser.add_argument("--limit", type=int, default=None, help="test samples, drawn at random; default: all")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    texts = {name: SUBJECTS[name] for name in SUBJECTS if name.startswith(("sst2", "warandpeace"))}
    images = Subject(f"{args.dataset}-vit-{args.width}", lambda name: split(args.dataset, name))
    subject = texts.get(args.dataset, images)
    name = f"methods-{args.dataset}" + ("-paper" if args.width == "paper" else "")
    pairs: dict[str, list[dict[str, Any]]] = {}
    for pair in args.pairs:
        pairs[pair] = over_pair(subject, pair.split(","), args.samples, args.limit)
        record(name, {"test_samples": pairs[args.pairs[0]][0]["metrics"]["samples"], "pairs": pairs})
    table = Table("model", "accuracy", "loss", "barrier", "seconds")
    for rows in zip(*pairs.values(), strict=True):
        cells = [spread([row["metrics"][key] for row in rows]) for key in ("accuracy", "loss")]
        cells += [
            "" if rows[0][key] is None else spread([row[key] for row in rows]) for key in ("barrier", "seconds")
        ]  # fmt: skip
        table.add_row(rows[0]["name"], *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
