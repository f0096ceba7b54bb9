"""Measure the effect of the paper's options, one at a time, on the validation split.

Every row changes one option of the default: soft plans, activations of 200 images, regularization of 0.08 of the
largest cost. The controls show what a row means. The effective support is the mean over all solved spaces, relative to
their size.

python benchmarks/flow.py --pairs 1,2 3,4
"""

import argparse
import sys
from pathlib import Path
from statistics import mean as average
from typing import Any

import matplotlib
import torch
from common import RESULTS, record, spread
from pairs import Pair
from rich.console import Console
from rich.table import Table

from transfuse.alignment.flow.method import align_flow
from transfuse.alignment.interface import AlignContext, Method
from transfuse.config.flow_options import FlowOptions
from transfuse.transport.solve import Match

matplotlib.use("Agg")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from golden.released import align_released
from matplotlib import pyplot

SWEEP = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64)
Row = tuple[str, int, FlowOptions]  # match_on, images, options

ROWS: dict[str, Row] = {
    "default: soft, activations": ("activations", 200, FlowOptions()),
    "soft, weights": ("weights", 0, FlowOptions()),
    "hard, activations": ("activations", 200, FlowOptions(plan="hard")),
    "hard, weights": ("weights", 0, FlowOptions(plan="hard")),
    "uniform plan (control)": ("weights", 0, FlowOptions(plan="uniform")),
    **{f"regularisation {value}": ("activations", 200, FlowOptions(regularization=value)) for value in SWEEP},
    **{f"regularisation {value}, weights": ("weights", 0, FlowOptions(regularization=value)) for value in SWEEP},
    **{f"cost {name}": ("activations", 200, FlowOptions(cost=name)) for name in ("squared", "cosine")},
    **{f"scale {name}": ("activations", 200, FlowOptions(scale=name)) for name in ("mean", "median")},
    **{f"samples {name}": ("activations", 200, FlowOptions(transform=name)) for name in ("center", "normalize", "raw")},
    **{
        f"policy {name}": ("activations", 200, FlowOptions(policy=name))
        for name in ("scalar", "matrix", "skip", "branch", "identity")
    },
    "queries and keys share a map": ("activations", 200, FlowOptions(queries="shared")),
    "queries and keys jointly": ("activations", 200, FlowOptions(queries="joint")),
    "heads kept apart": ("activations", 200, FlowOptions(heads="aware")),
    "heads kept apart, hard": ("activations", 200, FlowOptions(plan="hard", heads="aware")),
    "values by their context": ("activations", 200, FlowOptions(values="context")),
    **{f"tokens {name}": ("activations", 200, FlowOptions(tokens=name)) for name in ("class", "window-2")},
    **{f"{images} images": ("activations", images, FlowOptions()) for images in (50, 1000, 4000)},
    "as released": ("activations", 200, FlowOptions()),
    "as released, policy scalar": ("activations", 200, FlowOptions(policy="scalar")),
    "hard, policy skip": ("activations", 200, FlowOptions(plan="hard", policy="skip")),
    "hard, policy identity": ("activations", 200, FlowOptions(plan="hard", policy="identity")),
}
RELEASED = ("as released", "as released, policy scalar")  # rows of the authors' code, rebuilt in the tests


def support(matches: dict[str, Match]) -> float:
    """Return the mean effective support of all maps, relative to the number of anchor units."""
    return average(match.map.support() / match.map.plan().shape[-1] for match in matches.values())


def run(pair: Pair, match_on: str, images: int, options: FlowOptions, method: Method) -> dict[str, float]:
    """Measure one setting on one pair."""
    context = AlignContext(match_on, pair.batches(images), options)
    found, aligned = pair.fused(lambda anchor, source: method(anchor, source, context))
    return {"accuracy": found.accuracy, "loss": found.loss, "support": support(aligned.matches)}


def half(pair: Pair) -> dict[str, float]:
    """Measure the anchor with halved weights, the result if the source contributes nothing."""
    found = pair.measure({name: values / 2 for name, values in pair.anchor.tensors.items()})
    return {"accuracy": found.accuracy, "loss": found.loss}


def plot(rows: dict[str, list[dict[str, float]]], dataset: str) -> None:
    """Plot accuracy and effective support over the regularization."""
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    other = axes.twinx()
    for suffix, color, name in (("", "C1", "activations"), (", weights", "C0", "weights")):
        found = [rows[f"regularisation {value}{suffix}"] for value in SWEEP]
        axes.plot(SWEEP, [100 * average(row["accuracy"] for row in rs) for rs in found], "o-", color=color, label=name)
        other.plot(SWEEP, [average(row["support"] for row in rs) for rs in found], ":", color=color)
    for name, style in (("uniform plan (control)", "--"), ("half the anchor (control)", "-.")):
        level = 100 * average(row["accuracy"] for row in rows[name])
        axes.axhline(level, color="C7", linestyle=style, label=name)
    axes.set(xscale="log", xlabel="regularization, relative to the largest cost", ylabel="accuracy (%)")
    other.set(ylabel="effective support (dotted)", ylim=(0, 1))
    axes.legend(frameon=False, fontsize=8, loc="center right")
    figure.savefig(RESULTS / f"flow-{dataset}.png", dpi=140)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--pairs", nargs="+", default=["1,2", "3,4"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pairs = [Pair(args.dataset, pair.split(",")) for pair in args.pairs]
    rows: dict[str, Any] = {"half the anchor (control)": [half(pair) for pair in pairs]}
    table = Table("variant", "accuracy", "loss", "support")
    for name, setting in ROWS.items():
        method = align_released if name in RELEASED else align_flow
        rows[name] = [run(pair, *setting, method) for pair in pairs]
        print(name, [f"{row['accuracy']:.3f}" for row in rows[name]], flush=True)
    for name, found in rows.items():
        values = ([row[key] for row in found] for key in ("accuracy", "loss", "support") if key in found[0])
        table.add_row(name, *map(spread, values))
    Console(width=120).print(table)
    plot(rows, args.dataset)
    record(f"flow-{args.dataset}", {"split": "validation", "pairs": args.pairs, "rows": rows})


if __name__ == "__main__":
    main()
