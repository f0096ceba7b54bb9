"""An architecture of one's own: two residual networks on pixels, fused by the symmetries that their declaration states.

    python examples/extension.py

A quarter of a minute on one core. Model and declaration are in residual_mlp.py, ten lines each, explained line by
line in docs/adding-a-family.md. `check_declaration` proves the declaration on a model: it moves every declared
symmetry at random and says how far the logits went. Expect rounding there, and the usual order in the table.

    transfuse fuse out/extension/parent-1 out/extension/parent-2 -o out/extension/again --data out/extension/digits \
        --spec examples/residual_mlp.py
"""

from pathlib import Path

import torch
from common import DIGITS, digits, processor, show, trained
from residual_mlp import ResidualConfig, ResidualForImageClassification  # which registers its declaration

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
print(f"The declaration is true of the model: logits moved by {transfuse.check_declaration(model):.0e}.")

average = transfuse.fuse(parents, align="none").save(OUT / "average", "replace")
fused = transfuse.fuse(parents, data).save(OUT / "fused", "replace")

show(
    {"parent 1": parents[0], "parent 2": parents[1], "plain average": average, "fusion": fused, "ensemble": parents},
    data,
)
