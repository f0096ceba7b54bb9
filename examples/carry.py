"""Carry what a fine-tune learned to another base: ViTs for digits, of which one learned digits turned by a quarter.

    python examples/carry.py

This takes two minutes on one core. Two bases are trained on upright digits from different seeds, and the first is tuned
on turned ones, with labels. `carry` puts what it learned into the second base, with unlabeled digits. On turned digits,
the result should be nearly as good as the tuned model. On upright ones, it should be better than that, since it was
kept as the second base is. The files in out/carry can be used on the command line too:

    transfuse carry out/carry/base out/carry/tuned out/carry/new-base -o out/carry/again --data out/carry/turned \
        --keep out/carry/upright --steps 150
"""

from pathlib import Path

import torch
from common import DIGITS, digits, processor, show, trained
from datasets import Dataset, DatasetDict
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification

import transfuse

OUT = Path("out/carry")
CONFIG = ViTConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, **DIGITS)
SCHEDULE = {"learning_rate": 3e-3, "label_smoothing": 0.1}


def turned(rows: Dataset) -> Dataset:
    """Return the images, turned by a quarter, with their labels."""
    images = [image.transpose(Image.Transpose.ROTATE_90) for image in rows["image"][:]]
    return Dataset.from_dict({"image": images, "label": rows["label"][:]}, rows.features)


upright = digits()
quarter = DatasetDict({name: turned(rows) for name, rows in upright.items()})
upright.save_to_disk(OUT / "upright")
quarter.save_to_disk(OUT / "turned")
bases = []
for seed, name in ((1, "base"), (2, "new-base")):
    torch.manual_seed(seed)
    model = ViTForImageClassification(CONFIG)
    bases.append(trained(model, upright, processor(), OUT / name, seed, epochs=30, **SCHEDULE))
base, new_base = bases
start = ViTForImageClassification.from_pretrained(base)
tuned = trained(start, quarter, processor(), OUT / "tuned", 3, epochs=10, learning_rate=1e-3)

by_weights = transfuse.carry(base, tuned, new_base).save(OUT / "by-weights", "replace")
carried = transfuse.carry(base, tuned, new_base, quarter, keep=upright, steps=150).save(OUT / "carried", "replace")

models = {"base": base, "new base": new_base, "tuned": tuned, "carried, no samples": by_weights, "carried": carried}
for heading, samples in (("Turned digits:", quarter), ("Upright digits:", upright)):
    print(heading)
    show(models, samples)
