"""Fuse a wide ViT into a narrow one by transport maps and fitted layers, and train the result with both as teachers.

    python examples/widths.py

This takes half a minute on one core. Exact symmetries and plain averages require equal shapes; transport maps do not.
The mean of the mapped models should be near chance. `merge="least-squares"`, which fits every layer to the outputs of
both parents' layers, recovers nearly all of the accuracy, but with low confidence, which the loss shows. The control
with the uniform plan, which ignores the units, shows the contribution of the maps. A few epochs with the parents as
teachers restore the confidence; compare them with the narrow parent after the same training.

    transfuse fuse out/widths/narrow out/widths/wide -o out/widths/again --align flow --merge least-squares \
        --data out/widths/digits
    transfuse finetune out/widths/again -o out/widths/again-taught --data out/widths/digits --epochs 4 \
        --learning-rate 1e-3 --teacher out/widths/narrow --teacher out/widths/wide
"""

from pathlib import Path

import torch
from common import DIGITS, digits, processor, show, trained
from transformers import ViTConfig, ViTForImageClassification

import transfuse

OUT = Path("out/widths")
WIDTHS = {"narrow": 32, "wide": 64}
SCHEDULE = {"epochs": 30, "learning_rate": 3e-3, "label_smoothing": 0.1}
TRAINING = {"epochs": 4, "learning_rate": 1e-3}

data = digits()
data.save_to_disk(OUT / "digits")
parents = []
for seed, (name, width) in enumerate(WIDTHS.items(), 1):
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=2, num_attention_heads=4, intermediate_size=2 * width, **DIGITS
    )
    parents.append(trained(ViTForImageClassification(config), data, processor(), OUT / name, seed, **SCHEDULE))
narrow, wide = parents

flow = {"align": "flow", "merge": "least-squares"}
mean = transfuse.fuse(parents, data, align="flow", merge="mean").save(OUT / "mean", "replace")
fused = transfuse.fuse(parents, data, **flow).save(OUT / "fused", "replace")
uniform = transfuse.fuse(parents, data, flow={"plan": "uniform"}, **flow).save(OUT / "uniform", "replace")
taught = transfuse.finetune(fused, data, teachers=parents, **TRAINING).save(OUT / "taught", "replace")
alone = transfuse.finetune(narrow, data, teachers=parents, **TRAINING).save(OUT / "narrow-taught", "replace")

show(
    {
        "narrow": narrow,
        "wide": wide,
        "flow": mean,
        "fusion": fused,
        "fusion, uniform plan (control)": uniform,
        "fusion, taught": taught,
        "narrow, taught (control)": alone,
        "ensemble": parents,
    },
    data,
)
