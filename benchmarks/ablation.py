"""What each part of the exact alignment contributes, on the validation split.

python benchmarks/ablation.py --pairs 1,2 3,4
"""

import argparse
from collections.abc import Callable
from statistics import mean as average
from statistics import stdev

import torch
from common import PARENTS, record, split
from rich.console import Console
from rich.table import Table
from transformers import ViTForImageClassification, ViTImageProcessorPil

from transfuse.align.methods import Choices, align_within
from transfuse.evaluate import evaluate
from transfuse.io.data import load_samples
from transfuse.io.prepare import image_preparer
from transfuse.merge.mean import mean
from transfuse.network.model import network, with_tensors
from transfuse.network.space import Group, Space
from transfuse.network.symmetry import restrict, symmetric

Groups = Callable[[Space], Group]


def only(**groups: Group) -> Groups:
    """The group by the last part of a space's name; spaces not named stay fixed."""
    return lambda space: groups.get(space.name.split(".")[-1], Group.FIXED)


P, CENTRED, LINEAR = Group.PERMUTATION, Group.CENTRED, Group.LINEAR
GROUPS: dict[str, Groups] = {
    "nothing (plain average)": only(),
    "hidden units": only(hidden=P),
    "stream permuted": only(stream=P),
    "stream and hidden units permuted": only(stream=P, hidden=P),
    "+ heads": only(stream=P, hidden=P, head=P),
    "+ channels (all permutations)": only(stream=P, hidden=P, head=P, qk=P, v=P),
    "stream rotated": only(stream=CENTRED),
    "+ hidden units": only(stream=CENTRED, hidden=P),
    "+ heads ": only(stream=CENTRED, hidden=P, head=P),
    "+ channels permuted": only(stream=CENTRED, hidden=P, head=P, qk=P, v=P),
    "+ channels of values rotated": only(stream=CENTRED, hidden=P, head=P, qk=P, v=LINEAR),
    "+ channels of queries rotated (exact)": only(stream=CENTRED, hidden=P, head=P, qk=LINEAR, v=LINEAR),
}
EVIDENCE = {
    "weights": ("weights", 0),
    "activations, 200 images": ("activations", 200),
    "activations, 2,000 images": ("activations", 2000),
    "both, 200 images": ("both", 200),
    "both, 500 images": ("both", 500),
    "both, 2,000 images": ("both", 2000),
    "both, 5,000 images": ("both", 5000),
}


class Pair:
    """Two parents and their data."""

    def __init__(self, dataset: str, seeds: list[str]) -> None:
        folders = [PARENTS / f"{dataset}-vit-128-{seed}" for seed in seeds]
        models = [ViTForImageClassification.from_pretrained(folder).eval() for folder in folders]
        self.anchor, self.source = (network(model, torch.device("cpu")) for model in models)
        self.prepare = image_preparer(ViTImageProcessorPil.from_pretrained(folders[0]), models[0].config.num_channels)
        self.calibration = load_samples(split(dataset, "train"))
        self.validation = list(load_samples(split(dataset, "validation")).batches(self.prepare, 500))

    def fused(self, groups: Groups, evidence: str, images: int) -> tuple[float, float]:
        """Accuracy and loss of the fused model."""
        batches = list(self.calibration.take(images, 0).batches(self.prepare, 100)) if images else []
        spec = restrict(symmetric(self.source.spec), groups)
        aligned = align_within(spec, self.anchor, self.source, Choices(evidence, batches))
        model = with_tensors(self.anchor.model, mean([aligned.anchor, aligned.carried], [0.5, 0.5]))
        found = evaluate(model, self.validation)
        return found.accuracy, found.loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--pairs", nargs="+", default=["1,2", "3,4"])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pairs = [Pair(args.dataset, pair.split(",")) for pair in args.pairs]
    full = GROUPS["+ channels of queries rotated (exact)"]
    runs = {name: (groups, "both", 2000) for name, groups in GROUPS.items()}
    runs |= {name: (full, *chosen) for name, chosen in EVIDENCE.items()}
    console, table, rows = Console(width=120), Table("variant", "accuracy", "loss"), {}
    for name, chosen in runs.items():
        accuracies, losses = zip(*(pair.fused(*chosen) for pair in pairs), strict=True)
        rows[name] = {"accuracy": accuracies, "loss": losses}
        cells = [f"{average(values):.3f} ± {stdev(values):.3f}" for values in (accuracies, losses)]
        table.add_row(name, *cells)
        print(name, *cells, flush=True)
    console.print(table)
    record(f"ablation-{args.dataset}", {"split": "validation", "pairs": args.pairs, "rows": rows})


if __name__ == "__main__":
    main()
