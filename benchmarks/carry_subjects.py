"""What `carry.py` carries: the models, unlabeled samples that no model has seen, and how a model is measured."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from carry_parents import PASSAGES, folder, turned, turns
from common import split
from datasets import Dataset
from one_base import predictions, score
from one_base_parents import prepared, processor
from parents_lm import next_tokens
from PIL import Image
from texts import BOOKS, byte_pairs, passages
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedModel, ViTForImageClassification

Scores = dict[str, dict[str, float]]  # by measured samples (`task` and `old`), metrics by name
FIRST_SAMPLE = 30_000  # of the images for training; those before it were seen by some model
TEST_SEED = 7  # of the turns of test images


@dataclass(frozen=True)
class Subject:
    """What is carried.

    Attributes:
        name: the name of the subject in the parents' folders.
        batch: samples of a step of the controls that are taught.
        old: the name of the subject of the base and of the tuned model; empty: the same.
    """

    name: str
    batch: int = 50
    old: str = ""

    def opened(self, seed: int, name: str, old: bool = False) -> PreTrainedModel:
        """Return a trained model: `base` or `tuned`, of the old bases or of the new ones."""
        kind = GPT2LMHeadModel if self.name == "books" else ViTForImageClassification
        path = folder(seed, name, self.old if old and self.old else self.name)
        return kind.from_pretrained(path, attn_implementation="eager").eval()

    @property
    def processor(self) -> Any:
        """Return what prepares samples."""
        return byte_pairs("books") if self.name == "books" else processor()

    def samples(self, count: int) -> tuple[Dataset, Dataset]:
        """Return unlabeled samples of the task, and as many to keep."""
        if self.name == "books":
            new, old = (passages("train", book).select(range(PASSAGES, PASSAGES + count)) for book in BOOKS)
            return new, old
        rows = split("cifar10", "train").select(range(FIRST_SAMPLE, FIRST_SAMPLE + 2 * count))
        images = rows["image"][:]
        if self.name == "turns":
            quarters = torch.randint(4, (count,), generator=torch.Generator().manual_seed(0)).tolist()
            changed = [image.rotate(90 * turn) for image, turn in zip(images, quarters, strict=False)]
        else:
            changed = [image.transpose(Image.Transpose.ROTATE_90) for image in images[:count]]
        features = rows.remove_columns("label").features
        task, old = (Dataset.from_dict({"image": each}, features=features) for each in (changed, images[count:]))
        return task, old

    def scores(self, model: PreTrainedModel, count: int) -> Scores:
        """Return how good a model is on test samples of the task, and on old ones if its head is for them."""
        if self.name == "books":
            return {name: reading(model, book, count) for name, book in zip(("task", "old"), BOOKS, strict=True)}
        images, labels = test_images(count)
        if self.name == "turns":
            return {"task": score(predictions(model, (new := turns(images, TEST_SEED))[0]), new[1])}
        return {
            name: score(predictions(model, each), labels) for name, each in (("task", turned(images)), ("old", images))
        }


ALL = (Subject("cifar10"), Subject("turns"), Subject("wider", old="cifar10"), Subject("books", batch=10))
SUBJECTS = {subject.name: subject for subject in ALL}


@cache
def test_images(count: int) -> tuple[Tensor, Tensor]:
    """Return test images and their labels."""
    return prepared(split("cifar10", "test").select(range(count)), processor())


@torch.no_grad()
def reading(model: PreTrainedModel, book: str, count: int) -> dict[str, float]:
    """Return the loss of a language model on test passages of a book, in nats per token, and its perplexity."""
    words = byte_pairs("books")
    found = passages("test", book)
    texts = found.take(min(count, len(found)))["text"][:]
    inputs = words(texts, padding=True, truncation=True, return_tensors="pt")
    total = tokens = 0.0
    for ids, mask in zip(inputs["input_ids"].split(50), inputs["attention_mask"].split(50), strict=True):
        predicted = float(mask[:, 1:].sum())
        total += float(next_tokens(model, ids, mask)) * predicted
        tokens += predicted
    return {"loss": total / tokens, "perplexity": math.exp(total / tokens)}
