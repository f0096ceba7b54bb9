"""Measure by which confidence two image classifiers are best weighted, sample by sample and without labels.

python benchmarks/confidence.py

The rows are losses of the weighted mean of two parents' predictions on test images: with equal weights, by the entropy
of each parent's prediction, by the entropy of its mean prediction for slightly moved images, and by this entropy and by
how much predictions for similar images change when these move, as `fuse` does. Here the similar images are test images
too. The parents differ in their seeds, or in the views or the classes that they know (`trust.py`, `one_base_parents.py`
and `carry_parents.py`). The weighting was chosen on validation images.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from carry_parents import folder as carry_folder
from carry_parents import turned
from common import DATA, PARENTS, load, record, split, spread
from datasets import Dataset
from one_base_parents import half_folder, prepared, processor
from rows import markdown
from torch import Tensor
from torch.nn.functional import nll_loss
from transformers import AutoImageProcessor, PreTrainedModel, ViTForImageClassification
from trust import KINDS

from transfuse.base.batch import Batch
from transfuse.data.load import load_samples
from transfuse.data.tasks import task
from transfuse.distillation.similar_images import SimilarImages
from transfuse.distillation.teacher_weighting import (
    Shares,
    TeacherOutputs,
    WeightingFn,
    by_entropy,
    uniform,
    weighted_rows,
)
from transfuse.network.outputs import predict

BATCH = 250
Pair = tuple[list[Path], list[tuple[Tensor, Tensor]]]  # the parents, and images and labels by what the parents know
WEIGHTINGS = (
    "equal weights",
    "entropy of the prediction",
    "entropy of the mean over moved images",
    "the same, and change over similar images",
)


def pairs() -> Iterator[tuple[str, Pair]]:
    """Yield every pair of parents, by what they differ in, and the images that they are measured on."""
    shared = [DATA.parent / "parents" / f"cifar10-vit-{name}" for name in "ab"]
    yield "seeds, CIFAR-10", (shared, [_read(shared[0], split("cifar10", "test"))])
    for name, seeds in (("views", (1, 1)), ("classes", (1, 2))):
        kind = KINDS[name]
        folders = [PARENTS / f"{stem}-{seed}" for stem, seed in zip(kind.stems, seeds, strict=True)]
        yield f"{name} of Fashion-MNIST", (folders, [_read(folders[0], rows("test")) for rows in kind.parts.values()])
    images, labels = prepared(split("cifar10", "test"), processor())
    for seed in (1, 2, 3):
        halves = [half_folder(seed, half) for half in ("first-half", "second-half")]
        yield "classes of CIFAR-10, one base", (halves, [(images, labels)])
    for seed in (1, 2, 3):
        folders = [carry_folder(seed, name, "cifar10") for name in ("base", "tuned")]
        yield "upright and turned CIFAR-10, one base", (folders, [(images, labels), (turned(images), labels)])


def _read(model: Path, rows: Dataset) -> tuple[Tensor, Tensor]:
    """Return the images, as the processor of a model prepares them, and their labels."""
    config = ViTForImageClassification.config_class.from_pretrained(model)
    prepare = task("ViTForImageClassification").preparer(AutoImageProcessor.from_pretrained(model), config)
    batches = list(load_samples(rows).batches(prepare, BATCH))
    return torch.cat([batch["pixel_values"] for batch in batches]), torch.cat([batch["labels"] for batch in batches])


def weighting_fns(models: Sequence[PreTrainedModel], batches: Sequence[Batch]) -> dict[str, WeightingFn]:
    """Return the weightings by name. Some run the models again."""

    def by_own(outputs: TeacherOutputs) -> Shares:
        return by_entropy(replace(outputs, models=()))

    methods = uniform, by_own, by_entropy, SimilarImages(models, [0.5, 0.5], batches)
    return dict(zip(WEIGHTINGS, methods, strict=True))


@torch.no_grad()
def losses(pair: Pair) -> dict[str, float]:
    """Return the mean loss of the weighted ensemble, by weighting."""
    models = [ViTForImageClassification.from_pretrained(folder).eval() for folder in pair[0]]
    batches = [{"pixel_values": part} for images, _ in pair[1] for part in images.split(BATCH)]
    answers = torch.cat([labels for _, labels in pair[1]]).split(BATCH)
    found: dict[str, list[Tensor]] = {name: [] for name in WEIGHTINGS}
    methods = weighting_fns(models, batches)
    for batch, labels in zip(batches, answers, strict=True):
        logits = [predict(model, batch) for model in models]
        outputs = TeacherOutputs([[each] for each in logits], [0.5, 0.5], batch, models=models)
        for name, method in methods.items():
            mean = weighted_rows(method(outputs), (each.softmax(-1) for each in logits))
            found[name].append(nll_loss(mean.clamp_min(1e-12).log(), labels, reduction="none"))
    return {name: float(torch.cat(each).mean()) for name, each in found.items()}


def table() -> str:
    """Return the loss of each pair, or the mean and spread over several, by weighting."""
    found = load("confidence")["pairs"]
    rows = [[label, *(spread([run[name] for run in runs]) for name in WEIGHTINGS)] for label, runs in found.items()]
    return markdown(["parents differ in", *WEIGHTINGS], rows)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {}
    for label, pair in pairs():
        found.setdefault(label, []).append(losses(pair))
        print(label, found[label][-1], flush=True)
        record("confidence", {"pairs": found})


if __name__ == "__main__":
    main()
