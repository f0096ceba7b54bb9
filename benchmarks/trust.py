"""Measure fusions of two parents that know different data, for each weighting of the parents and part of the data.

python benchmarks/trust.py --pairs 1,1 2,2 3,3
python benchmarks/trust.py --kind classes --pairs 1,2 3,4 5,6
python benchmarks/trust.py --kind books --pairs 1,2 3,4 5,6 --samples 600 --batch-size 25

With `views`, one parent saw images of Fashion-MNIST at the center of a larger canvas, and the other saw images anywhere
on it. With `classes`, each parent saw nine tenths of the images of five classes and one tenth of the others. With
`books`, the first Llama read nine tenths of Tiny Shakespeare and one tenth of War and Peace, and the other the rest.
Calibration samples come from both parts. Figures are from the test split of each part. An interrupted run continues
where it stopped.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from common import PARENTS, resumed, split
from datasets import Dataset
from rows import trust
from texts import BOOKS, passages
from views import both, viewed

from transfuse.base.batch import Batch
from transfuse.checkpoint.reading.load import load_model
from transfuse.data.load import load_samples
from transfuse.data.processors import model_processor
from transfuse.data.tasks import task
from transfuse.distillation.teacher_weighting import by_entropy, ensemble_predictions
from transfuse.evaluation.evaluate import ensemble, evaluate
from transfuse.evaluation.log_probabilities import predictions
from transfuse.fusion.fuse import fuse

METHODS: dict[str, dict[str, Any]] = {
    "plain average": {"align": "none"},
    "exact": {"merge": "mean"},
    "least squares, trust even": {"teacher_weighting": "uniform", "merge": "least-squares"},
    "least squares, trust confidence": {"teacher_weighting": "confidence", "merge": "least-squares"},
    "least squares, trust labels": {"teacher_weighting": "labels", "merge": "least-squares"},
}


@dataclass(frozen=True)
class Kind:
    """The parts of a data set, and the parents that know each of them, in the folders `STEM-SEED`."""

    name: str
    parts: dict[str, Callable[[str], Dataset]]  # by part, a function that returns a split of it
    stems: tuple[str, str]
    calibration: Callable[[], Dataset]


def half(first: int) -> Callable[[str], Dataset]:
    """Return a function that selects five classes of a split."""

    def part(name: str) -> Dataset:
        rows = split("fashion-mnist", name)
        return rows.select([place for place, label in enumerate(rows["label"][:]) if first <= label < first + 5])

    return part


TITLES = {"tinyshakespeare": "Tiny Shakespeare", "warandpeace": "War and Peace"}
KINDS = {
    "views": Kind(
        "trust-fashion-mnist",
        {"centred": lambda name: viewed("centred", name), "moved": lambda name: viewed("moved", name)},
        ("fashion-mnist-vit-64-centred", "fashion-mnist-vit-64-moved"), lambda: both("train"),
    ),
    "classes": Kind(
        "trust-fashion-mnist-classes", {"classes 0 to 4": half(0), "classes 5 to 9": half(5)},
        ("fashion-mnist-vit-64-skewed",) * 2, lambda: split("fashion-mnist", "train"),
    ),
    "books": Kind(
        "trust-books", {TITLES[book]: partial(passages, text=book) for book in BOOKS},
        ("books-llama-96",) * 2, lambda: passages("train", "books"),
    ),
}  # fmt: skip


def over_pair(kind: Kind, seeds: list[str], samples: int, batch_size: int) -> dict[str, dict[str, Any]]:
    """Return the metrics by row and part."""
    folders = [PARENTS / f"{stem}-{seed}" for stem, seed in zip(kind.stems, seeds, strict=True)]
    models = [load_model(folder) for folder in folders]
    processor = model_processor(folders[0], models[0])
    prepare = task(type(models[0]).__name__).preparer(processor, models[0].config)
    tests: dict[str, list[Batch]] = {
        part: list(load_samples(rows("test")).batches(prepare, 250)) for part, rows in kind.parts.items()
    }
    found = {
        f"parent, {part}": {name: evaluate(model, batches) for name, batches in tests.items()}
        for part, model in zip(kind.parts, models, strict=True)
    }
    for name, options in METHODS.items():
        rows = kind.calibration()
        fused = fuse(models, rows, processor=processor, samples=samples, batch_size=batch_size, **options).model
        found[name] = {part: evaluate(fused, batches) for part, batches in tests.items()}
        print(seeds, name, {part: round(metrics.loss, 4) for part, metrics in found[name].items()}, flush=True)
    found["ensemble"] = {part: ensemble(models, batches) for part, batches in tests.items()}
    found["ensemble, trust confidence"] = {
        part: predictions(
            lambda batch: ensemble_predictions(by_entropy, models, (0.5, 0.5), batch).clamp_min(1e-12).log(), batches
        ).metrics()
        for part, batches in tests.items()
    }
    return {name: {part: asdict(each) for part, each in row.items()} for name, row in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, default="views")
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--batch-size", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    kind = KINDS[args.kind]
    resumed(kind.name, args.pairs, lambda pair: over_pair(kind, pair.split(","), args.samples, args.batch_size))
    print(trust(kind.name, perplexity=args.kind == "books"))


if __name__ == "__main__":
    main()
