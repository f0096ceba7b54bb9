"""Measure the loss barrier of every alignment and merge method over pairs of parents, on the test split.

python benchmarks/barrier.py --dataset cifar10 --pairs 1,2 3,4 5,1
python benchmarks/barrier.py --dataset tinyshakespeare-llama --pairs 1,2 3,4 5,6 --samples 400 --batch-size 25

The fusions use no labels. Each alignment runs once and is followed by both merge methods. The barrier of a mean is that
of the line between the aligned models, measured at --points positions. Layers fitted by least squares do not lie on
this line: their barrier is their loss minus the mean of the parents' losses. An interrupted run continues where it
stopped.
"""

import argparse
import time
from dataclasses import asdict
from statistics import mean as average
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from barrier_table import IMAGES, TEXTS
from common import RESULTS, merged, resumed, spread
from matplotlib import pyplot
from rich.console import Console
from rich.table import Table
from subjects import SUBJECTS, Judge, Subject

from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.evaluation.evaluate import Metrics, measure_path
from transfuse.fusion.align import align
from transfuse.fusion.calibration import calibrate
from transfuse.network.model import Network, network

ALIGNMENTS: dict[str, dict[str, Any]] = {
    "plain average": {"align": "none"},
    "flow": {"align": "flow", "samples": 200},
    "uniform plan (control)": {"align": "flow", "flow": {"plan": "uniform"}, "samples": 200},
    "permutations only": {"align": "exact", "match_on": "weights", "groups": "permutations"},
    "exact": {"align": "exact", "match_on": "weights"},
    "learned": {"align": "learned", "match_on": "weights"},
}
FITTED = ("exact", "learned")
COLORS = {"plain average": "C7", "flow": "C1", "permutations only": "C2", "exact": "C0", "learned": "C3"}


def over_pair(subject: Subject, seeds: list[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return every row of one pair."""
    device = torch.device(args.device)
    models = [subject.model(seed).to(device) for seed in seeds]
    networks = [network(model, device) for model in models]
    judge = Judge(subject, seeds[0], "test", args.limit)
    first, second = (judge.measure(model) for model in models)
    rows = [row("anchor", first), row("other parent", second)]
    for name, options in ALIGNMENTS.items():
        rows += over_alignment(name, options, networks, subject, judge, (first, second), args)
        print(seeds, *(f"{each['name']}: {each['barrier']:.3f}" for each in rows[2:]), sep="; ", flush=True)
    return [*rows, row("ensemble", judge.ensemble(models), excess(judge.ensemble(models), (first, second)))]


def over_alignment(
    name: str, options: dict[str, Any], networks: list[Network], subject: Subject, judge: Judge,
    parents: tuple[Metrics, Metrics], args: argparse.Namespace,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of one alignment: the mean, with its whole line, and the fitted layers."""
    learning = {"steps": args.steps, "augment": args.augment} if options["align"] == "learned" else {}
    # With least squares, `calibrate` loads data for every alignment.
    sizes = {"samples": args.samples, "batch_size": args.batch_size, "merge": "least-squares"}
    chosen = make(Options, sizes | options | learning)
    context = calibrate(networks, networks[0].model, subject.samples("train"), chosen, judge.processor)
    start = time.perf_counter()
    (aligned,), history = align(networks, [0.5, 0.5], context, chosen)
    seconds = time.perf_counter() - start
    line = measure_path(networks[0].model, aligned.anchor, aligned.carried, parents, judge.batches, args.points)
    middle = line.points[len(line.points) // 2]
    found = [row(name, middle, line.barrier, seconds) | {"line": asdict(line)}]
    if history:
        found[0]["course"] = asdict(history)
    if name in FITTED:
        fused, fits = merged(networks, [aligned], context, "least-squares")
        metrics = judge.measure(fused)
        seconds = time.perf_counter() - start
        found.append(row(f"{name}, least squares", metrics, excess(metrics, parents), seconds) | fits)
    return found


def row(name: str, metrics: Metrics, barrier: float | None = None, seconds: float | None = None) -> dict[str, Any]:
    """Return one row of the table."""
    return {"name": name, "metrics": asdict(metrics), "barrier": barrier, "seconds": seconds}


def excess(metrics: Metrics, parents: tuple[Metrics, Metrics]) -> float:
    """Return the loss minus the mean of the parents' losses."""
    return metrics.loss - average(each.loss for each in parents)


def show(pairs: dict[str, list[dict[str, Any]]]) -> None:
    """Print the mean and standard deviation of every row over the pairs."""
    table = Table("model", "accuracy", "loss", "barrier", "seconds")
    for rows in zip(*pairs.values(), strict=True):
        cells = [spread([each["metrics"][key] for each in rows]) for key in ("accuracy", "loss")]
        cells += [
            "" if rows[0][key] is None else spread([each[key] for each in rows]) for key in ("barrier", "seconds")
        ]
        table.add_row(rows[0]["name"], *cells)
    Console(width=120).print(table)


def draw(dataset: str, pairs: dict[str, list[dict[str, Any]]]) -> None:
    """Plot the losses along the lines, one curve per pair. Fitted layers are points at the midpoint."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for number, rows in enumerate(pairs.values()):
        by_name = {each["name"]: each for each in rows}
        for name, color in COLORS.items():
            line = by_name[name]["line"]
            label = name if number == 0 else None
            losses = [point["loss"] for point in line["points"]]
            axes.plot(line["positions"], losses, color=color, label=label, marker="o", markersize=3)
        for name, marker, size in (("exact", "s", 8), ("learned", "D", 4)):
            label = f"{name}, least squares" if number == 0 else None
            loss = by_name[f"{name}, least squares"]["metrics"]["loss"]
            axes.plot([0.5], [loss], marker, color=COLORS[name], label=label, markeredgecolor="black", markersize=size)
    title = (IMAGES | TEXTS).get(dataset, dataset)
    axes.set(xlabel="anchor → other parent, aligned", ylabel="test loss (nats)", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(RESULTS / f"barrier-{dataset}.png", dpi=140)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=SUBJECTS)
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=4000, help="test samples")
    parser.add_argument("--points", type=int, default=7)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--augment", default="none")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    subject = SUBJECTS[args.dataset]
    pairs = resumed(
        f"barrier-{args.dataset}", args.pairs, lambda pair: over_pair(subject, pair.split(","), args),
        lambda rows: {"test_samples": rows[0]["metrics"]["samples"]},
    )  # fmt: skip
    show(pairs)
    draw(args.dataset, pairs)


if __name__ == "__main__":
    main()
