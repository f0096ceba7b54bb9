"""Measure the contribution of each part of the exact alignment on the validation split.

python benchmarks/ablation.py --pairs 1,2 3,4
"""

import argparse
from collections.abc import Callable

import torch
from common import record, spread
from pairs import Pair
from rich.console import Console
from rich.table import Table

from transfuse.alignment.exact.method import align_within
from transfuse.alignment.interface import AlignContext
from transfuse.evaluation.evaluate import Metrics
from transfuse.network.space import Group, Space
from transfuse.network.symmetry import restrict, symmetric

Groups = Callable[[Space], Group]


def only(**groups: Group) -> Groups:
    """Choose a group by the last part of a space's name. Other spaces stay fixed."""
    return lambda space: groups.get(space.name.split(".")[-1], Group.FIXED)


P, CENTERED, LINEAR = Group.PERMUTATION, Group.CENTERED, Group.LINEAR
GROUPS: dict[str, Groups] = {
    "nothing (plain average)": only(),
    "hidden units": only(hidden=P),
    "stream permuted": only(stream=P),
    "stream and hidden units permuted": only(stream=P, hidden=P),
    "+ heads": only(stream=P, hidden=P, head=P),
    "+ channels (all permutations)": only(stream=P, hidden=P, head=P, qk=P, v=P),
    "stream rotated": only(stream=CENTERED),
    "+ hidden units": only(stream=CENTERED, hidden=P),
    "+ heads ": only(stream=CENTERED, hidden=P, head=P),
    "+ channels permuted": only(stream=CENTERED, hidden=P, head=P, qk=P, v=P),
    "+ channels of values rotated": only(stream=CENTERED, hidden=P, head=P, qk=P, v=LINEAR),
    "+ channels of queries rotated (exact)": only(stream=CENTERED, hidden=P, head=P, qk=LINEAR, v=LINEAR),
}
MATCH_ON = {
    "weights": ("weights", 0),
    "activations, 200 images": ("activations", 200),
    "activations, 2,000 images": ("activations", 2000),
    "both, 200 images": ("both", 200),
    "both, 500 images": ("both", 500),
    "both, 2,000 images": ("both", 2000),
    "both, 5,000 images": ("both", 5000),
}


def fused(pair: Pair, groups: Groups, match_on: str, images: int) -> Metrics:
    """Measure the mean of two parents aligned within these groups."""
    context = AlignContext(match_on, pair.batches(images))
    spec = restrict(symmetric(pair.source.spec), groups)
    return pair.fused(lambda anchor, source: align_within(spec, anchor, source, context))[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--pairs", nargs="+", default=["1,2", "3,4"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pairs = [Pair(args.dataset, pair.split(",")) for pair in args.pairs]
    full = GROUPS["+ channels of queries rotated (exact)"]
    runs = {name: (groups, "both", 2000) for name, groups in GROUPS.items()}
    runs |= {name: (full, *chosen) for name, chosen in MATCH_ON.items()}
    console, table, rows = Console(width=120), Table("variant", "accuracy", "loss"), {}
    for name, chosen in runs.items():
        found = [fused(pair, *chosen) for pair in pairs]
        accuracies, losses = [each.accuracy for each in found], [each.loss for each in found]
        rows[name] = {"accuracy": accuracies, "loss": losses}
        cells = [spread(values) for values in (accuracies, losses)]
        table.add_row(name, *cells)
        print(name, *cells, flush=True)
    console.print(table)
    record(f"ablation-{args.dataset}", {"split": "validation", "pairs": args.pairs, "rows": rows})


if __name__ == "__main__":
    main()
