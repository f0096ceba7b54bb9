"""Fuse two to eight parents that know different classes, by the default, beside parents that take the same steps.

python benchmarks/crowd.py --steps 75
python benchmarks/crowd.py --data fashion-mnist --counts 5 --steps 150 --samples 2000

The parents are ViTs on scikit-learn's digits or on Fashion-MNIST. Each sees nine tenths of the images of its own
classes and one tenth of the others. With n parents, class c belongs to parent c modulo n. The controls are the anchor
and the best parent (on the validation split), moved by the same steps towards the same targets. All figures are from
the test split. Parents are kept, so another run and `starts.py crowd` use them again.
"""

import argparse
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import PARENTS, load, record, split, spread
from datasets import Dataset
from default import teachers
from grow import ensemble
from parents import STATISTICS
from rows import markdown
from training import Recipe, train_classifier
from transformers import PreTrainedModel, ViTForImageClassification, ViTImageProcessorPil

from transfuse import fuse
from transfuse.base.batch import Batch
from transfuse.checkpoint.reading.load import load_model
from transfuse.cli.demo.digits import KNOWN_SHARE, RECIPE, digits, processor
from transfuse.config.literals import LearningOptions
from transfuse.data.image.images import image_preparer
from transfuse.data.load import load_samples
from transfuse.evaluation.evaluate import evaluate
from transfuse.fusion.match import match
from transfuse.fusion.sample_weighting import sample_weighting
from transfuse.merging.training.learned_weights import WeightDistillation


@dataclass(frozen=True)
class Subject:
    """Hold a data set and the recipe of its parents.

    Attributes:
        splits: returns the rows of `train`, `validation` and `test`.
        sizes: of the configuration of a ViT.
    """

    splits: Callable[[], Mapping[str, Dataset]]
    processor: ViTImageProcessorPil
    sizes: dict[str, Any]
    recipe: Recipe


def garments() -> dict[str, Dataset]:
    """Return the splits of Fashion-MNIST."""
    return {name: split("fashion-mnist", name) for name in ("train", "validation", "test")}


MEAN, DEVIATION = STATISTICS["fashion-mnist"]
SUBJECTS = {
    "digits": Subject(
        digits,
        processor(),
        {"hidden_size": 96, "num_hidden_layers": 3, "intermediate_size": 192, "image_size": 8, "patch_size": 2},
        Recipe(**vars(RECIPE)),
    ),
    "fashion-mnist": Subject(
        garments,
        ViTImageProcessorPil(
            do_resize=False, image_mean=MEAN, image_std=DEVIATION, size={"height": 28, "width": 28}
        ),
        {"hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 256, "image_size": 28, "patch_size": 7},
        Recipe(epochs=12, crop=2, flip=True),
    ),
}  # fmt: skip
SHARED: dict[str, Any] = {
    "num_attention_heads": 4, "num_channels": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
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


def parents_of(name: str, data: Mapping[str, Dataset], count: int, seed: int) -> list[PreTrainedModel]:
    """Train `count` parents, or load them if an earlier run did."""
    models = []
    for number in range(count):
        folder = PARENTS / f"{name}-vit-crowd-{count}-{seed}-{number}"
        if not folder.exists():
            trained = parent(SUBJECTS[name], data["train"], number, count, seed)
            SUBJECTS[name].processor.save_pretrained(folder)
            trained.save_pretrained(folder)
        models.append(load_model(folder).eval())
    return models


def parent(subject: Subject, data: Dataset, number: int, count: int, seed: int) -> ViTForImageClassification:
    """Train one of `count` parents."""
    own = np.array(data["label"][:]) % count == number
    draws = np.random.default_rng([seed, number]).random(len(data))
    images = data.select((draws < np.where(own, KNOWN_SHARE, 1 - KNOWN_SHARE)).nonzero()[0].tolist())
    torch.manual_seed(100 * seed + number)
    names = dict(enumerate(data.features["label"].names))
    config = ViTForImageClassification.config_class(
        **subject.sizes, **SHARED, id2label=names, label2id={name: index for index, name in names.items()}
    )
    model = ViTForImageClassification(config)
    (batch,) = batches(subject, images, len(images))
    train_classifier(model, batch["pixel_values"], batch["labels"], subject.recipe, seed)
    return model.eval()


def batches(subject: Subject, data: Dataset, size: int = 500) -> list[Batch]:
    """Return prepared batches of `size` images."""
    return list(load_samples(data).batches(image_preparer(subject.processor, 1), size))


def measured(name: str, count: int, seed: int, steps: int, samples: int) -> dict[str, dict[str, Any]]:
    """Return the metrics of every row for one group of parents."""
    subject = SUBJECTS[name]
    data = subject.splits()
    models = parents_of(name, data, count, seed)
    tests, held_out = (batches(subject, data[part]) for part in ("test", "validation"))
    found: dict[str, dict[str, Any]] = {}

    def keep(name: str, metrics: Any, **facts: Any) -> None:
        found[name] = {"loss": metrics.loss, "accuracy": metrics.accuracy} | facts

    each = [evaluate(model, tests) for model in models]
    mean = {name: sum(getattr(metrics, name) for metrics in each) / count for name in ("loss", "accuracy")}
    found["parents, mean"] = mean
    best = min(range(count), key=lambda number: evaluate(models[number], held_out).loss)
    keep("best parent", each[best])
    given = load_samples(data["train"].remove_columns("label"))
    options: dict[str, Any] = {"processor": subject.processor, "samples": samples, "seed": seed}
    keep("plain average", evaluate(fuse(models, align="none").model, tests))
    keep("quick", evaluate(fuse(models, given, effort="quick", **options).model, tests))
    fused = fuse(models, given, steps=steps, **options)
    course = fused.record["learned_weights"]
    keep("default", evaluate(fused.model, tests), start=course["start"], best=course["best"], starts=course["starts"])
    matched = match(models, given, steps=steps, **options)
    parents, split = teachers(matched)
    learning, weighting = LearningOptions(steps=steps), sample_weighting(matched)
    for name, number in (("anchor, moved", 0), ("best parent, moved", best)):
        control = deepcopy(parents[number])
        WeightDistillation(control, parents, matched.weights, split, learning, weighting).run("weights")
        keep(name, evaluate(control, tests))
    for method in ("uniform", "auto"):
        keep(f"ensemble, {method}", ensemble(models, method, tests))
    return found


def table(name: str = "crowd") -> str:
    """Return accuracy and loss of every row, by the number of parents."""
    groups = dict(sorted(load(name)["groups"].items(), key=lambda group: int(group[0])))
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
    parser.add_argument("--data", choices=SUBJECTS, default="digits")
    parser.add_argument("--counts", nargs="+", type=int, default=[2, 3, 5, 8])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=75)
    parser.add_argument("--samples", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    name = "crowd" if args.data == "digits" else f"crowd-{args.data}"
    groups: dict[str, list[dict[str, Any]]] = {}
    for count in args.counts:
        for seed in args.seeds:
            rows = measured(args.data, count, seed, args.steps, args.samples)
            groups.setdefault(str(count), []).append(rows)
            print(count, seed, {name: round(row["accuracy"], 4) for name, row in rows.items()}, flush=True)
            record(name, {"steps": args.steps, "samples": args.samples, "groups": groups})


if __name__ == "__main__":
    main()
