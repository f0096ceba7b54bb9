"""Train a base, a small ViT for CIFAR-10, and pairs of fine-tunes: of one half of the classes, and of the other.

python benchmarks/one_base_parents.py --seeds 1 2 3

The base sees 15,000 images of all classes. The fine-tunes see the other 30,000 images of the training split: nine
tenths of the images of their half of the classes, and a tenth of the others. A seed draws the halves, and the order of
the images. Models that exist are kept.
"""

import time
from pathlib import Path

import torch
from common import PARENTS, parents_parser, save_parent, split
from datasets import Dataset
from parents import STATISTICS
from torch import Tensor
from training import Recipe, train_classifier
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

SHAPE = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 384}
BASE_IMAGES = 15_000
SHARE = 0.9
BASE = Recipe(epochs=12, crop=4, flip=True)
FINE_TUNE = Recipe(epochs=3, learning_rate=5e-4, crop=4, flip=True)
HALVES = ("first half", "second half")


def base_folder() -> Path:
    """Return where the base is."""
    return PARENTS / "one-base-cifar10-1" / "base"


def half_folder(seed: int, half: str) -> Path:
    """Return where a fine-tune of a seed is."""
    return PARENTS / f"one-base-cifar10-{seed}" / half.replace(" ", "-")


def halves(rows: Dataset, seed: int) -> list[Dataset]:
    """Return the images that each fine-tune of a seed sees."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randperm(rows.features["label"].num_classes, generator=generator)[::2]
    labels = torch.tensor(rows["label"][:])
    chance = torch.where(torch.isin(labels, first), SHARE, 1 - SHARE)
    drawn = torch.rand(len(labels), generator=generator) < chance
    return [rows.select(chosen.nonzero().flatten().tolist()) for chosen in (drawn, ~drawn)]


def processor() -> ViTImageProcessorPil:
    """Return the processor of all models."""
    mean, deviation = STATISTICS["cifar10"]
    size = {"height": 32, "width": 32}
    return ViTImageProcessorPil(do_resize=False, image_mean=mean, image_std=deviation, size=size)


def new_model(labels: dict[int, str], **shape: int) -> ViTForImageClassification:
    """Return an untrained model, of the usual shape but for the given fields."""
    config = ViTConfig(
        **(SHAPE | shape),
        image_size=32,
        patch_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=labels,
        label2id={name: index for index, name in labels.items()},
        attn_implementation="eager",
    )
    return ViTForImageClassification(config)


def train(model: ViTForImageClassification, rows: Dataset, recipe: Recipe, seed: int, target: Path) -> None:
    """Train a model, and save it with its processor and the facts of its training."""
    begin = time.monotonic()
    train_classifier(model, *prepared(rows, processor()), recipe, seed)
    seconds = time.monotonic() - begin
    facts = {"seed": seed, "images": len(rows), "recipe": vars(recipe), "seconds": seconds}
    save_parent(target, model, processor(), facts)
    print(f"{target}: {seconds:.0f} s", flush=True)


def prepared(rows: Dataset, images: ViTImageProcessorPil) -> tuple[Tensor, Tensor]:
    """Return the pixels and the labels of some images."""
    return images(rows["image"][:], return_tensors="pt")["pixel_values"], torch.tensor(rows["label"][:])


def main() -> None:
    args = parents_parser(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    rows = split("cifar10", "train")
    if not base_folder().exists():
        torch.manual_seed(1)
        model = new_model(dict(enumerate(rows.features["label"].names)))
        train(model, rows.select(range(BASE_IMAGES)), BASE, 1, base_folder())
    others = rows.select(range(BASE_IMAGES, len(rows)))
    for seed in args.seeds:
        for half, images in zip(HALVES, halves(others, seed), strict=True):
            if half_folder(seed, half).exists():
                continue
            model = ViTForImageClassification.from_pretrained(base_folder(), attn_implementation="eager")
            train(model, images, FINE_TUNE, seed, half_folder(seed, half))


if __name__ == "__main__":
    main()
