"""Train bases from different seeds, small ViTs for CIFAR-10, and a fine-tune of each on images that are turned.

python benchmarks/carry_parents.py --seeds 1 2 3

The bases see the same 20,000 images. The fine-tunes see 10,000 others, turned by a quarter, with labels. Models that
exist are kept.
"""

import argparse
from pathlib import Path

import torch
from common import PARENTS, split
from one_base_parents import new_model, prepared, processor
from torch import Tensor
from transformers import ViTForImageClassification

from transfuse.cli.demo.training import Recipe, train_classifier

BASE_IMAGES = slice(0, 20_000)
TASK_IMAGES = slice(20_000, 30_000)
BASE = Recipe(epochs=10, crop=4, flip=True)
TUNING = Recipe(epochs=3, learning_rate=5e-4, crop=4, flip=True)


def folder(seed: int, name: str) -> Path:
    """Return where the model of a seed is: `base` or `tuned`."""
    return PARENTS / f"carry-cifar10-{seed}" / name


def turned(images: Tensor) -> Tensor:
    """Return images turned by a quarter."""
    return images.rot90(1, (2, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = split("cifar10", "train")
    images, labels = prepared(rows.select(range(TASK_IMAGES.stop)), processor())
    for seed in args.seeds:
        if not folder(seed, "base").exists():
            torch.manual_seed(seed)
            model = new_model(dict(enumerate(rows.features["label"].names)))
            train_classifier(model, images[BASE_IMAGES], labels[BASE_IMAGES], BASE, seed)
            save(model, folder(seed, "base"))
        if not folder(seed, "tuned").exists():
            model = ViTForImageClassification.from_pretrained(folder(seed, "base"), attn_implementation="eager")
            train_classifier(model, turned(images[TASK_IMAGES]), labels[TASK_IMAGES], TUNING, seed)
            save(model, folder(seed, "tuned"))


def save(model: ViTForImageClassification, target: Path) -> None:
    """Save a model with its processor."""
    model.save_pretrained(target)
    processor().save_pretrained(target)
    print(target, flush=True)


if __name__ == "__main__":
    main()
