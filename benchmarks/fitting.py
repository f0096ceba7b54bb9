"""What each part of the least squares contributes, and what more samples do: validation split.

python benchmarks/fitting.py --dataset fashion-mnist --pairs 1,2 2,3 3,1
"""

import argparse
from dataclasses import asdict
from statistics import mean
from typing import Any

import torch
from common import record, spread
from rich.console import Console
from rich.table import Table
from subjects import SUBJECTS, Judge, Subject

import transfuse.merge.least_squares as fitting
from transfuse.config import Options, make
from transfuse.fusion import align, calibrate, merge
from transfuse.network.model import network

VARIANTS: dict[str, tuple[bool, bool, int]] = {  # tokens weighed, units chosen, samples
    "means, all tokens alike": (False, False, 2000),
    "tokens weighed": (True, False, 2000),
    "units chosen": (False, True, 2000),
    "both (default)": (True, True, 2000),
    "both, 500 samples": (True, True, 500),
    "both, 6,000 samples": (True, True, 6000),
}
WEIGHED, LARGEST = fitting.sensitivities, fitting.SELECTABLE


def over_pair(subject: Subject, seeds: list[str], limit: int) -> dict[str, dict[str, Any]]:
    """By variant, metrics, and the loss over the mean of the parents'."""
    networks = [network(subject.model(seed), torch.device("cpu")) for seed in seeds]
    judge = Judge(subject, seeds[0], "validation", limit)
    base = mean(judge.measure(each.model).loss for each in networks)
    found = {}
    for name, (weighed, units, samples) in VARIANTS.items():
        options = make(Options, {"samples": samples, "evidence": "weights"})
        choices = calibrate(networks, networks[0].model, subject.samples("train"), options, judge.processor)
        aligned, _ = align(networks, [0.5, 0.5], choices, options)
        fitting.sensitivities = WEIGHED if weighed else lambda *given: {}
        fitting.SELECTABLE = LARGEST if units else 0
        fused, _ = merge(networks[0], aligned, [0.5, 0.5], choices, "least-squares")
        metrics = judge.measure(fused)
        found[name] = {"metrics": asdict(metrics), "excess": metrics.loss - base}
        print(seeds, name, round(found[name]["excess"], 4), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=SUBJECTS)
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=2500, help="validation samples")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pairs = {pair: over_pair(SUBJECTS[args.dataset], pair.split(","), args.limit) for pair in args.pairs}
    table = Table("variant", "accuracy", "excess loss")
    for name in VARIANTS:
        values = [[pair[name]["metrics"]["accuracy"] for pair in pairs.values()]]
        values.append([pair[name]["excess"] for pair in pairs.values()])
        table.add_row(name, *map(spread, values))
    Console(width=100).print(table)
    record(f"fitting-{args.dataset}", {"pairs": pairs})


if __name__ == "__main__":
    main()
