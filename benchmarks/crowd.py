"""Fuse two to eight parents that know different digits, by the default, beside parents that take the same steps.

python benchmarks/crowd.py --steps 75

The parents are ViTs on scikit-learn's digits. Each sees nine tenths of the scans of its own digits and one tenth of the
others. With n parents, digit d belongs to parent d modulo n. The controls are the anchor and the best parent (on the
validation split), moved by the same steps towards the same targets. All figures are from the test split.
"""

import argparse
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from common import record, spread
from datasets import Dataset
from default import teachers
from grow import ensemble
from rows import load, markdown
from transformers import ViTForImageClassification

from transfuse import fuse
from transfuse.cli.demo.digits import KNOWN_SHARE, NAMES, RECIPE, batches, digits, processor
from transfuse.cli.demo.training import train_classifier
from transfuse.config.literals import LearningOptions
from transfuse.data.load import load_samples
from transfuse.evaluation.evaluate import evaluate
from transfuse.fusion.match import match
from transfuse.fusion.sample_weighting import sample_weighting
from transfuse.merging.learned_weights import learn_weights

SIZES: dict[str, Any] = {
    "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192, "image_size": 8,
    "patch_size": 2, "num_channels": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
ROWS = {
    "parents, mean": "parents, mean",
    "best parent": "best parent",
    "plain average": "plain average (control)",
    "quick": "`--effort quick`",
    "default": "**default**",
    "anchor, moved": "anchor, trained by the same steps (control)",
    "best parent, moved": "best parent, trained by the same steps (control)",
    "ensemble, uniform": "ensemble",
    "ensemble, auto": "ensemble, weighted as the default",
}


def parent(data: Dataset, number: int, count: int, seed: int) -> ViTForImageClassification:
    """Train one of `count` parents."""
    own = np.array(data["label"][:]) % count == number
    draws = np.random.default_rng([seed, number]).random(len(data))
    scans = data.select((draws < np.where(own, KNOWN_SHARE, 1 - KNOWN_SHARE)).nonzero()[0].tolist())
    torch.manual_seed(100 * seed + number)
    names = dict(enumerate(NAMES))
    config = ViTForImageClassification.config_class(**SIZES, id2label=names, label2id={n: i for i, n in names.items()})
    model = ViTForImageClassification(config)
    (batch,) = batches(load_samples(scans), len(scans))
    train_classifier(model, batch["pixel_values"], batch["labels"], RECIPE, seed)
    return model.eval()


def measured(count: int, seed: int, steps: int, samples: int) -> dict[str, dict[str, Any]]:
    """Return the metrics of every row for one group of parents."""
    data = digits()
    models = [parent(data["train"], number, count, seed) for number in range(count)]
    tests, held_out = (batches(load_samples(data[name])) for name in ("test", "validation"))
    found: dict[str, dict[str, Any]] = {}

    def keep(name: str, metrics: Any, **facts: Any) -> None:
        found[name] = {"loss": metrics.loss, "accuracy": metrics.accuracy} | facts

    each = [evaluate(model, tests) for model in models]
    mean = {name: sum(getattr(metrics, name) for metrics in each) / count for name in ("loss", "accuracy")}
    found["parents, mean"] = mean
    best = min(range(count), key=lambda number: evaluate(models[number], held_out).loss)
    keep("best parent", each[best])
    given = load_samples(data["train"].remove_columns("label"))
    options: dict[str, Any] = {"processor": processor(), "samples": samples, "seed": seed}
    keep("plain average", evaluate(fuse(models, align="none").model, tests))
    keep("quick", evaluate(fuse(models, given, effort="quick", **options).model, tests))
    fused = fuse(models, given, steps=steps, **options)
    course = fused.record["learned_weights"]
    keep("default", evaluate(fused.model, tests), start=course["start"], best=course["best"], starts=course["starts"])
    matched = match(models, given, steps=steps, **options)
    parents, split = teachers(matched)
    weighting = sample_weighting(matched)
    for name, number in (("anchor, moved", 0), ("best parent, moved", best)):
        control = deepcopy(parents[number])
        learn_weights(control, parents, matched.weights, split, LearningOptions(steps=steps), weighting)
        keep(name, evaluate(control, tests))
    for method in ("uniform", "auto"):
        keep(f"ensemble, {method}", ensemble(models, method, tests))
    return found


def table() -> str:
    """Return accuracy and loss of every row, by the number of parents."""
    groups = load("crowd")["groups"]
    rows = []
    for name, label in ROWS.items():
        cells = []
        for runs in groups.values():
            accuracy, loss = ([run[name][key] for run in runs] for key in ("accuracy", "loss"))
            cells.append(f"{spread(accuracy, 1, 100)}, {spread(loss)}")
        rows.append([label, *cells])
    return markdown(["accuracy (%), loss", *(f"{count} parents" for count in groups)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", type=int, default=[2, 3, 5, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=75)
    parser.add_argument("--samples", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    groups: dict[str, list[dict[str, Any]]] = {}
    for count in args.counts:
        for seed in args.seeds:
            rows = measured(count, seed, args.steps, args.samples)
            groups.setdefault(str(count), []).append(rows)
            print(count, seed, {name: round(row["accuracy"], 4) for name, row in rows.items()}, flush=True)
            record("crowd", {"steps": args.steps, "samples": args.samples, "groups": groups})


if __name__ == "__main__":
    main()
