"""Define the subjects of the benchmarks: parents of one kind, their data, and their training schedule."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from common import DATA, PARENTS, resumed, split
from datasets import Dataset, load_dataset
from texts import passages
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.checkpoint.reading.load import load_model
from transfuse.data.load import load_samples
from transfuse.data.samples import Samples
from transfuse.data.tasks import task
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING
from transfuse.evaluation.evaluate import Metrics, ensemble, evaluate

READY = DATA.parent / "parents"  # trained elsewhere


def uncompressed(samples: Samples) -> Samples:
    """Return the same images as bitmaps, which decode faster."""

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        stream = BytesIO()
        row[samples.image].save(stream, "BMP")
        return {samples.image: {"bytes": stream.getvalue(), "path": None}}

    features = samples.dataset.features
    return replace(samples, dataset=samples.dataset.map(encode, features=features, keep_in_memory=True))


@dataclass(frozen=True)
class Subject:
    """Parents in the folders `STEM-SEED`, their data by split (`rows`), and their training `schedule`."""

    stem: str
    rows: Callable[[str], Any]
    schedule: dict[str, Any] = field(default_factory=dict)

    def folder(self, seed: str) -> Path:
        name = f"{self.stem}-{seed}"
        return READY / name if (READY / name).exists() else PARENTS / name

    def samples(self, name: str) -> Samples:
        samples = load_samples(self.rows(name))
        return uncompressed(samples) if samples.image else samples

    def model(self, seed: str) -> PreTrainedModel:
        return load_model(self.folder(seed))


class Judge:
    """Measures models on a split, or on `limit` random samples of it. The samples are prepared once."""

    def __init__(self, subject: Subject, seed: str, name: str, limit: int | None = None) -> None:
        self.subject, self.seed, self.name, self.limit = subject, seed, name, limit

    @cached_property
    def processor(self) -> Any:
        model = self.subject.model(self.seed)
        return task(type(model).__name__).load(self.subject.folder(self.seed))

    @cached_property
    def batches(self) -> list[dict[str, Tensor]]:
        model = self.subject.model(self.seed)
        prepare = task(type(model).__name__).preparer(self.processor, model.config)
        return list(self.subject.samples(self.name).take(self.limit, 0).batches(prepare, min(250, self.limit or 250)))

    def measure(self, model: PreTrainedModel) -> Metrics:
        return evaluate(model, self.batches)

    def ensemble(self, models: list[PreTrainedModel]) -> Metrics:
        return ensemble(models, self.batches)


def sentences(name: str) -> Dataset:
    """Return a split of SST-2.

    `test` is its validation file. `validation` and `train` are the last 2,000 and first 32,000 rows of its
    training file.
    """
    stored = "validation" if name == "test" else "train"
    rows = load_dataset("parquet", data_files=str(DATA / "sst2" / f"{stored}.parquet"), split="train")
    ranges = {"train": range(32000), "validation": range(len(rows) - 2000, len(rows))}
    return rows.select(ranges[name]) if name in ranges else rows


CLOTHES = {"augment": "flip", "label_smoothing": 0.1, "batch_size": 128}
IMAGES = {"augment": "crop-flip", "label_smoothing": 0.1, "batch_size": 128}
SUBJECTS = {
    "cifar10": Subject("cifar10-vit-96", lambda name: split("cifar10", name), IMAGES),
    "cifar10-256": Subject("cifar10-vit-256", lambda name: split("cifar10", name), IMAGES),
    "fashion-mnist": Subject("fashion-mnist-vit-64", lambda name: split("fashion-mnist", name), CLOTHES),
    "fashion-mnist-skewed": Subject("fashion-mnist-vit-64-skewed", lambda name: split("fashion-mnist", name), CLOTHES),
    "sst2": Subject("sst2-bert-64", sentences, {"batch_size": 64}),
    "sst2-narrow": Subject("sst2-bert-32", sentences, {"batch_size": 64}),
    "tinyshakespeare-gpt2": Subject("tinyshakespeare-gpt2-96", partial(passages, text="tinyshakespeare")),
    "tinyshakespeare-gpt2-256": Subject("tinyshakespeare-gpt2-256", partial(passages, text="tinyshakespeare")),
    "tinyshakespeare-llama": Subject("tinyshakespeare-llama-96", partial(passages, text="tinyshakespeare")),
    "books-llama": Subject("books-llama-96", partial(passages, text="books")),
    "warandpeace": Subject("warandpeace-bert-128", passages, {"batch_size": 32}),
    "warandpeace-gpt2": Subject("warandpeace-gpt2-192", passages, {"batch_size": 16}),
    "warandpeace-llama": Subject("warandpeace-llama-192", passages, {"batch_size": 16}),
}


def pairs_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what is measured over pairs of parents."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, choices=SUBJECTS)
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=3000, help="number of samples to fit layers to")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument(
        "--teacher-weighting", choices=TEACHER_WEIGHTING, default="uniform", help="weight of each parent per sample"
    )
    parser.add_argument("--limit", type=int, default=4000, help="samples of each split to measure on")
    return parser


def measure_pairs(
    name: str,
    parser: argparse.ArgumentParser,
    over_pair: Callable[[Subject, list[str], argparse.Namespace], dict[str, Any]],
    length: str,
) -> None:
    """Measure each pair that was given on one thread, and record `results/NAME-DATASET.json`.

    Args:
        length: the argument that says how long models are trained, which is recorded.
    """
    args = parser.parse_args()
    torch.set_num_threads(1)
    suffix = "" if args.teacher_weighting == "uniform" else f"-{args.teacher_weighting}"
    resumed(
        f"{name}-{args.dataset}{suffix}",
        args.pairs,
        lambda pair: over_pair(SUBJECTS[args.dataset], pair.split(","), args),
        lambda _: {length: getattr(args, length)},
    )
