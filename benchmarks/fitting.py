"""Measure the contribution of each part of least squares, and of more samples, on the validation split.

python benchmarks/fitting.py --dataset fashion-mnist --pairs 1,2 2,3 3,1
python benchmarks/fitting.py --dataset tinyshakespeare-gpt2 --pairs 1,2 3,4 5,6 --samples 300 --batch-size 25 \\
    --limit 200 --variants "both, last layer by least squares" "all (default)"
"""

import argparse
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

import torch
from common import merged, record, spread
from rich.console import Console
from rich.table import Table
from subjects import SUBJECTS, Judge, Subject

import transfuse.merging.fitting.least_squares as fitting
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.fusion.align import align
from transfuse.fusion.calibration import calibrate
from transfuse.network.model import network


@dataclass(frozen=True)
class Variant:
    """The parts that are used, and the number of samples relative to --samples."""

    weighed: bool = True
    units: bool = True
    readout: bool = True
    samples: float = 1.0


VARIANTS = {
    "means, all tokens alike": Variant(weighed=False, units=False),
    "tokens weighed": Variant(units=False),
    "units chosen": Variant(weighed=False),
    "both, last layer by least squares": Variant(readout=False),
    "all (default)": Variant(),
    "all, a quarter of the samples": Variant(samples=0.25),
    "all, three times the samples": Variant(samples=3.0),
}
WEIGHED, LARGEST, READOUT = fitting.token_importance, fitting.MAX_CANDIDATE_INPUTS, fitting.output_head


def over_pair(subject: Subject, seeds: list[str], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return, for each variant, the metrics and the loss minus the mean of the parents' losses."""
    networks = [network(subject.model(seed), torch.device("cpu")) for seed in seeds]
    judge = Judge(subject, seeds[0], "validation", args.limit)
    base = mean(judge.measure(each.model).loss for each in networks)
    found = {}
    for name in args.variants:
        variant = VARIANTS[name]
        sizes = {"samples": int(args.samples * variant.samples), "batch_size": args.batch_size}
        options = make(Options, sizes | {"match_on": "weights"})
        context = calibrate(networks, networks[0].model, subject.samples("train"), options, judge.processor)
        aligned, _ = align(networks, [0.5, 0.5], context, options)
        fitting.token_importance = WEIGHED if variant.weighed else lambda *given: {}
        fitting.MAX_CANDIDATE_INPUTS = LARGEST if variant.units else 0
        fitting.output_head = READOUT if variant.readout else lambda *given: None
        fused, _ = merged(networks, aligned, context, "least-squares")
        metrics = judge.measure(fused)
        found[name] = {"metrics": asdict(metrics), "excess": metrics.loss - base}
        print(seeds, name, round(found[name]["excess"], 4), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=SUBJECTS)
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--limit", type=int, default=2500, help="validation samples")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pairs = {pair: over_pair(SUBJECTS[args.dataset], pair.split(","), args) for pair in args.pairs}
    table = Table("variant", "accuracy", "excess loss")
    for name in args.variants:
        values = [[pair[name]["metrics"]["accuracy"] for pair in pairs.values()]]
        values.append([pair[name]["excess"] for pair in pairs.values()])
        table.add_row(name, *map(spread, values))
    Console(width=100).print(table)
    record(f"fitting-{args.dataset}", {"pairs": pairs})


if __name__ == "__main__":
    main()
