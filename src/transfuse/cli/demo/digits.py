"""Load handwritten digits (UCI; 1,797 scans of 8 x 8 pixels, in scikit-learn) and train small ViTs on them."""

from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from jaxtyping import Float
from PIL import Image as Picture
from sklearn.datasets import load_digits
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from transfuse.base.libraries import quiet
from transfuse.checkpoint.reading.load import load_model
from transfuse.checkpoint.writing.output import write_json
from transfuse.checkpoint.writing.owned import json_or_none
from transfuse.cli.demo.training import Recipe, train_classifier
from transfuse.data.image.images import image_preparer
from transfuse.data.load import load_samples
from transfuse.data.samples import Samples
from transfuse.errors import TransfuseError

SPLITS = {"train": 1097, "validation": 300, "test": 400}
RECIPE = Recipe(epochs=60, batch_size=64, learning_rate=2e-3)
HALF = 5  # digits below this one are the first half
KNOWN_SHARE = 0.9  # of the scans of its half of the digits that a parent sees
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def digits() -> DatasetDict:
    """Return the scans in three fixed splits (train 1,097, validation 300, test 400), drawn with seed 0."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    edges = np.cumsum(list(SPLITS.values()))[:-1]
    features = Features({"image": Image(), "label": ClassLabel(names=NAMES)})
    return DatasetDict(
        {
            name: Dataset.from_dict(
                {"image": [Picture.fromarray(pixels[i]) for i in indices], "label": labels[indices].tolist()}, features
            )
            for name, indices in zip(SPLITS, np.split(order, edges), strict=True)
        }
    )


def halves(data: Dataset) -> dict[str, Dataset]:
    """Return the scans of zero to four, and those of five to nine."""
    labels = np.array(data["label"][:])
    first, second = ((labels < HALF).nonzero()[0], (labels >= HALF).nonzero()[0])
    return {"zero to four": data.select(first.tolist()), "five to nine": data.select(second.tolist())}


def skewed(data: Dataset, seed: int, share: float, draws: Float[np.ndarray, " sample"]) -> Dataset:
    """Return the images that the parent of a seed sees.

    An odd seed sees a share of the images of the first half of the classes, and the remaining share of those of the
    other half. An even seed sees all other images.

    Args:
        share: the share of the half that an odd seed knows well.
        draws: a random number from 0 to 1 for each image, which decides who sees it.
    """
    labels = np.array(data["label"][:])
    chance = np.where(labels < data.features["label"].num_classes // 2, share, 1 - share)
    first = draws < chance.astype(draws.dtype)
    return data.select((first if seed % 2 else ~first).nonzero()[0].tolist())


def processor() -> ViTImageProcessorPil:
    """Return a processor that scales pixels to about zero mean and unit deviation."""
    return ViTImageProcessorPil(do_resize=False, image_mean=[0.3], image_std=[0.375], size={"height": 8, "width": 8})


def parent(folder: Path, data: DatasetDict, seed: int) -> ViTForImageClassification:
    """Return a small ViT trained on what it sees, which is read from `folder` if an earlier run trained it.

    An odd seed knows zero to four well, and an even seed five to nine.
    """
    settings = {"seed": seed, "recipe": vars(RECIPE), "share of the known half": KNOWN_SHARE}
    settings_file = folder / "training.json"
    if json_or_none(settings_file) == settings and (saved := _saved(folder)) is not None:
        return saved
    settings_file.unlink(missing_ok=True)
    torch.manual_seed(seed)
    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=96,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=192,
            image_size=8,
            patch_size=2,
            num_channels=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="eager",
            id2label=dict(enumerate(NAMES)),
            label2id={name: i for i, name in enumerate(NAMES)},
        )
    )
    draws = np.random.default_rng(0).random(len(data["train"]))
    scans = skewed(data["train"], seed, KNOWN_SHARE, draws)
    (batch,) = batches(load_samples(scans), len(scans))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums is fixed, so that a seed gives one parent
    train_classifier(model, batch["pixel_values"], batch["labels"], RECIPE, seed)
    torch.set_num_threads(threads)
    with quiet():
        model.save_pretrained(folder)
        processor().save_pretrained(folder)
    write_json(settings_file, settings)
    return model


def _saved(folder: Path) -> ViTForImageClassification | None:
    """Return the parent in a folder, or None if it is damaged."""
    try:
        model = load_model(folder)
    except TransfuseError:
        return None
    return model if isinstance(model, ViTForImageClassification) else None


def batches(samples: Samples, size: int = 500) -> list[dict[str, torch.Tensor]]:
    """Return prepared batches of `size` images."""
    return list(samples.batches(image_preparer(processor(), 1), size))
