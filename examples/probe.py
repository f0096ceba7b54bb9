"""Carry a linear probe from one ViT to another, by the map between their residual streams.

    python examples/probe.py

This takes half a minute on one core. A probe reads from the hidden states of a parent how many loops a digit has (none
in 1, one in 6, two in 8). The map takes it to a parent that was trained from another seed. It should be better there
than the same probe without the map, and worse than a probe that is trained on that parent. How much better it is
depends on the parents, which are small: by 5 to 33 percentage points with other processors and seeds. Labels of loops
are used for training probes only. The map is left in out/probe/maps.safetensors. The command line writes it, too:

    transfuse fuse out/probe/parent-2 out/probe/parent-1 -o out/probe/fused --data out/probe/digits --merge mean \
        --maps out/probe/maps-again.safetensors
"""

from pathlib import Path

import torch
from common import DIGITS, digits, processor, trained
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from transformers import ViTConfig, ViTForImageClassification

import transfuse

OUT = Path("out/probe")
CONFIG = ViTConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128, **DIGITS)
LOOPS = torch.tensor([1, 0, 0, 0, 0, 0, 1, 0, 2, 1])  # by digit
BLOCK = 2  # of four, after which the probe reads

data = digits()
data.save_to_disk(OUT / "digits")
parents = []
for seed in (1, 2):
    torch.manual_seed(seed)
    model = ViTForImageClassification(CONFIG)
    parents.append(trained(model, data, processor(), OUT / f"parent-{seed}", seed, epochs=30, learning_rate=3e-3))
first, second = parents


@torch.no_grad()
def states(folder: Path, split: str) -> torch.Tensor:
    """Return the mean hidden state of each image, minus that of all training images, which differs between models.

    The mean over the entries of a state is removed too, as LayerNorms do.
    """
    model = ViTForImageClassification.from_pretrained(folder)
    found = {}
    for name in ("train", split):
        pixels = processor()(data[name]["image"][:], return_tensors="pt")["pixel_values"]
        means = model(pixel_values=pixels, output_hidden_states=True).hidden_states[BLOCK].mean(1)
        found[name] = means - means.mean(-1, keepdim=True)
    return found[split] - found["train"].mean(0)


loops = {split: LOOPS[torch.tensor(data[split]["label"][:])] for split in ("train", "test")}


def probe(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Train a linear probe on the hidden states of a model, and return its weights and biases."""
    fitted = LogisticRegression(max_iter=2000).fit(states(folder, "train").numpy(), loops["train"].numpy())
    return torch.tensor(fitted.coef_).float(), torch.tensor(fitted.intercept_).float()


def accuracy(folder: Path, weights: torch.Tensor, biases: torch.Tensor) -> float:
    """Return the share of the test images whose loops are read correctly."""
    read = (states(folder, "test") @ weights.T + biases).argmax(-1)
    return float((read == loops["test"]).float().mean())


maps = transfuse.match([second, first], data, merge="mean").maps()
maps.save(OUT / "maps.safetensors")
maps = transfuse.load_maps(OUT / "maps.safetensors")  # as in another program
weights, biases = probe(first)

table = Table("probe", "read from", "accuracy")
for name, folder, its_weights, its_biases in (
    ("of parent 1", first, weights, biases),
    ("of parent 1, not carried", second, weights, biases),
    ("of parent 1, carried", second, maps.readers(weights), biases),
    ("of parent 2", second, *probe(second)),
):
    table.add_row(name, f"parent {parents.index(folder) + 1}", f"{accuracy(folder, its_weights, its_biases):.2%}")
Console().print(table)
