"""Two parents that know different views of Fashion-MNIST, fused: how good on each view, by whom is believed.

python benchmarks/trust.py --seeds 1 2 3

One parent saw images at the centre of a larger canvas, the other images anywhere on it. Calibration samples are half
of each view; measured on the test split, in each.
"""

import argparse
from dataclasses import asdict
from statistics import mean
from typing import Any

import torch
from common import PARENTS, record, spread
from rich.console import Console
from rich.table import Table
from views import both, viewed

from transfuse.batch import Batch
from transfuse.evaluate import ensemble, evaluate
from transfuse.fusion import fuse
from transfuse.io.checkpoint import load_model
from transfuse.io.data import load_samples
from transfuse.tasks import own_processor, task

VIEWS = ("centred", "moved")
WAYS: dict[str, dict[str, Any]] = {
    "plain average": {"align": "none"},
    "exact": {"merge": "mean"},
    "least squares, trust even": {"trust": "even"},
    "least squares, trust confidence": {"trust": "confidence"},
    "least squares, trust labels": {"trust": "labels"},
}


def over_pair(seed: int, samples: int) -> dict[str, dict[str, Any]]:
    """By row and view, metrics."""
    folders = [PARENTS / f"fashion-mnist-vit-64-{view}-{seed}" for view in VIEWS]
    models = [load_model(folder) for folder in folders]
    processor = own_processor(folders[0], models[0])
    prepare = task(type(models[0]).__name__).preparer(processor, models[0].config)
    tests: dict[str, list[Batch]] = {
        view: list(load_samples(viewed(view, "test")).batches(prepare, 250)) for view in VIEWS
    }
    found = {
        f"parent, {view}": {name: evaluate(model, batches) for name, batches in tests.items()}
        for view, model in zip(VIEWS, models, strict=True)
    }
    for name, options in WAYS.items():
        fused = fuse(models, both("train"), processor=processor, samples=samples, **options).model
        found[name] = {view: evaluate(fused, batches) for view, batches in tests.items()}
        print(seed, name, {view: round(metrics.accuracy, 4) for view, metrics in found[name].items()}, flush=True)
    found["ensemble"] = {view: ensemble(models, batches) for view, batches in tests.items()}
    return {name: {view: asdict(each) for view, each in row.items()} for name, row in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pairs = {str(seed): over_pair(seed, args.samples) for seed in args.seeds}
    table = Table("model", *(f"{view}, accuracy" for view in VIEWS), "both")
    for name in pairs[str(args.seeds[0])]:
        values = [[100 * pair[name][view]["accuracy"] for pair in pairs.values()] for view in VIEWS]
        values.append([mean(each) for each in zip(*values, strict=True)])
        table.add_row(name, *(spread(each, 1) for each in values))
    Console(width=120).print(table)
    record("trust-fashion-mnist", {"pairs": pairs})


if __name__ == "__main__":
    main()
