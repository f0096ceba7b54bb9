"""Fuse two ViTs that were trained on handwritten digits from different seeds.

    python examples/vit.py

This takes half a minute on one core. The plain average should be far below its parents, and the fusion about as good as
they are. The files in out/vit can be used on the command line too:

    transfuse fuse out/vit/parent-1 out/vit/parent-2 -o out/vit/again --data out/vit/digits \
        --merge least-squares
    transfuse eval out/vit/again out/vit/parent-1 out/vit/parent-2 --data out/vit/digits
    transfuse path out/vit/parent-1 out/vit/parent-2 --data out/vit/digits --plot out/vit/path.png
"""

from pathlib import Path

import torch
from common import DIGITS, digits, processor, show, trained
from transformers import ViTConfig, ViTForImageClassification

import transfuse

OUT = Path("out/vit")
CONFIG = ViTConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, **DIGITS)
SCHEDULE = {"epochs": 30, "learning_rate": 3e-3, "label_smoothing": 0.1}

data = digits()
data.save_to_disk(OUT / "digits")
parents = []
for seed in (1, 2):
    torch.manual_seed(seed)
    model = ViTForImageClassification(CONFIG)
    parents.append(trained(model, data, processor(), OUT / f"parent-{seed}", seed, **SCHEDULE))

average = transfuse.fuse(parents, align="none").save(OUT / "average", "replace")
fused = transfuse.fuse(parents, data, merge="least-squares").save(
    OUT / "fused", "replace"
)  # samples of the training split, labels unread

show(
    {"parent 1": parents[0], "parent 2": parents[1], "plain average": average, "fusion": fused, "ensemble": parents},
    data,
)
