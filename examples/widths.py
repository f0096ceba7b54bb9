"""Fuse a narrow and a wide ViT that know different digits, into the narrow and into the wide shape.

    python examples/widths.py

This takes half a minute on one core. The narrow ViT saw mostly the digits zero to four, and the wide one mostly five to
nine. The first model is the anchor, whose shape the result has. The narrow model gets wider without a change of its
function, and the wide one gives up the units that matter least. Then both are aligned and fitted, as models of equal
width are. Both results should be far better than each parent. The transport maps of the paper (`align="flow"`) map
widths directly, and should gain little.

    transfuse fuse out/widths/wide out/widths/narrow -o out/widths/again --data out/widths/digits --effort quick
"""

from pathlib import Path

import torch
from common import DIGITS, digits, processor, show, trained
from datasets import DatasetDict
from transformers import ViTConfig, ViTForImageClassification

import transfuse

OUT = Path("out/widths")
SIZES = {"narrow": 48, "wide": 80}
HEAD = 8  # channels of a head, of which a wider model has more
SCHEDULE = {"epochs": 60, "learning_rate": 3e-3, "label_smoothing": 0.1}

data = digits()
data.save_to_disk(OUT / "digits")
parents = []
for seed, (name, width) in enumerate(SIZES.items(), 1):
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=width, num_hidden_layers=2, num_attention_heads=width // HEAD, intermediate_size=2 * width, **DIGITS
    )
    knows_first = name == "narrow"  # the digits zero to four: nine tenths of them, and a tenth of the others
    seen = data["train"].filter(
        lambda row, index, first=knows_first: ((row["label"] < 5) == first) == (index % 10 > 0), with_indices=True
    )
    own = DatasetDict(data | {"train": seen})
    parents.append(trained(ViTForImageClassification(config), own, processor(), OUT / name, seed, **SCHEDULE))
narrow, wide = parents

quick = {"effort": "quick"}
into_narrow = transfuse.fuse([narrow, wide], data, **quick).save(OUT / "into-narrow", "replace")
into_wide = transfuse.fuse([wide, narrow], data, **quick).save(OUT / "into-wide", "replace")
flow = transfuse.fuse([wide, narrow], data, align="flow", merge="least-squares").save(OUT / "flow", "replace")

show(
    {
        "narrow": narrow,
        "wide": wide,
        "fused into the narrow shape": into_narrow,
        "fused into the wide shape": into_wide,
        "into the wide shape, by transport maps": flow,
        "ensemble": parents,
    },
    data,
)
