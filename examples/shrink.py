"""Make a ViT for digits smaller: half of its parameters, then a quarter, with a control of the same size.

    python examples/shrink.py

This takes a minute on one core. `shrink` chooses the size, cuts what matters least, fits the layers, and trains all
weights to do what the large model does. The smaller models should lose little. The control is an untrained model of
the size of the quarter that is taught by the large one in as many steps; it should be far behind. The files in
out/shrink can be used on the command line too:

    transfuse shrink out/shrink/large -o out/shrink/again --data out/shrink/digits --ratio 0.5 --steps 100
"""

from pathlib import Path

import torch
from common import DIGITS, digits, processor, show, trained
from transformers import ViTConfig, ViTForImageClassification

import transfuse

OUT = Path("out/shrink")
STEPS = 100

data = digits()
data.save_to_disk(OUT / "digits")
torch.manual_seed(1)
config = ViTConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256, **DIGITS)
schedule = {"epochs": 30, "learning_rate": 3e-3, "label_smoothing": 0.1}
large = trained(ViTForImageClassification(config), data, processor(), OUT / "large", 1, **schedule)

half = transfuse.shrink(large, data, ratio=0.5, steps=STEPS)
quarter = transfuse.shrink(large, data, ratio=0.25, steps=STEPS)
print(half, quarter, sep="\n")
torch.manual_seed(2)
untrained = ViTForImageClassification(quarter.model.config)
epochs = STEPS * 100 / len(data["train"])
control = transfuse.finetune(
    untrained, data, teachers=[large], distill=1.0, processor=processor(), epochs=epochs, batch_size=100,
    learning_rate=3e-3,
)  # fmt: skip

show(
    {
        "large": large,
        "half": half.save(OUT / "half", "replace"),
        "a quarter": quarter.save(OUT / "quarter", "replace"),
        "a quarter, untrained, taught (control)": control.save(OUT / "control", "replace"),
    },
    data,
)
