"""Fuse two models of your own architecture, a residual network on pixels, by the symmetries in its declaration.

    python examples/extension.py

This takes a quarter of a minute on one core. The model and its declaration are in residual_mlp.py, ten lines each;
docs/adding-a-family.md explains them line by line. `check_declaration` applies every declared symmetry at random and
returns how far the logits moved, which should be rounding error. The fusion should be close to its parents.

    transfuse fuse out/extension/parent-1 out/extension/parent-2 -o out/extension/again --data out/extension/digits \
        --spec examples/residual_mlp.py --merge least-squares
"""

from pathlib import Path

import torch
from common import DIGITS, digits, processor, show, trained
from residual_mlp import ResidualConfig, ResidualForImageClassification  # registers its declaration

import transfuse

OUT = Path("out/extension")
NAMES = {name: DIGITS[name] for name in ("id2label", "label2id")}
SCHEDULE = {"epochs": 20, "learning_rate": 5e-3, "label_smoothing": 0.1}

data = digits()
data.save_to_disk(OUT / "digits")
parents = []
for seed in (1, 2):
    torch.manual_seed(seed)
    model = ResidualForImageClassification(ResidualConfig(**NAMES))
    parents.append(trained(model, data, processor(), OUT / f"parent-{seed}", seed, **SCHEDULE))
print(f"The declaration is correct: logits changed by {transfuse.check_declaration(model):.0e}.")

average = transfuse.fuse(parents, align="none").save(OUT / "average", "replace")
fused = transfuse.fuse(parents, data, merge="least-squares").save(OUT / "fused", "replace")

show(
    {"parent 1": parents[0], "parent 2": parents[1], "plain average": average, "fusion": fused, "ensemble": parents},
    data,
)
