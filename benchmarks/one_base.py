"""Compare merge methods on two fine-tunes of one base: task vectors, least squares and learned weights, with controls.

python benchmarks/one_base_parents.py --seeds 1 2 3
python benchmarks/one_base.py --seeds 1 2 3

Scales and densities of task vectors are chosen by the accuracy on labeled images of the validation split. No other
option was chosen. Least squares and learned weights see unlabeled images of the training split. All figures are from
the test split. An interrupted run continues where it stopped.
"""

import argparse
import json
import time
from typing import Any

import torch
from common import RESULTS, record, split
from datasets import Dataset
from one_base_parents import HALVES, base_folder, half_folder, prepared, processor
from one_base_table import table
from torch import Tensor
from torch.nn.functional import nll_loss
from transformers import PreTrainedModel, ViTForImageClassification

from transfuse import fuse, load_samples
from transfuse.fusion.models.shared_base import base_correlation
from transfuse.network.model import network

NAME = "one-base-cifar10"
SCALES = (0.7, 1.0, 1.4)  # relative to the mean of the task vectors
DENSITIES = (0.2, 0.5, 0.8)
GRIDS: dict[str, list[dict[str, Any]]] = {
    "task-arithmetic": [{"task_scale": scale} for scale in (*SCALES, 2.0)],
    "ties": [{"task_scale": scale, "density": (share,)} for share in DENSITIES for scale in SCALES],
    "dare-linear": [{"task_scale": scale, "density": (share,)} for share in DENSITIES for scale in SCALES],
    "dare-ties": [{"task_scale": scale, "density": (share,)} for share in DENSITIES for scale in SCALES],
}
Images = tuple[Tensor, Tensor]


@torch.no_grad()
def predictions(model: PreTrainedModel, images: Tensor) -> Tensor:
    """Return the log-probabilities of all classes for every image."""
    return torch.cat([model(pixel_values=batch).logits.log_softmax(-1) for batch in images.split(500)])


def score(logs: Tensor, labels: Tensor) -> dict[str, float]:
    """Return accuracy and loss."""
    return {"accuracy": float((logs.argmax(-1) == labels).float().mean()), "loss": float(nll_loss(logs, labels))}


def measure(seed: int, rows: dict[str, Dataset], args: argparse.Namespace, pairs: dict[str, Any]) -> None:
    """Measure every method for one pair, and record each at once. Those that are recorded are not measured again."""
    base, *parents = (
        ViTForImageClassification.from_pretrained(folder).eval()
        for folder in (base_folder(), *(half_folder(seed, half) for half in HALVES))
    )
    validation, test = (prepared(rows[name], processor()) for name in ("validation", "test"))
    samples = load_samples(rows["samples"].remove_columns("label"))
    networks = [network(model, torch.device("cpu")) for model in parents]
    pair = pairs.setdefault(str(seed), {"rows": {}, "correlation": base_correlation(networks)})
    result: dict[str, Any] = pair["rows"]

    def add(name: str, logs: Tensor, **facts: Any) -> None:
        result[name] = score(logs, test[1]) | facts
        print(seed, name, result[name], flush=True)
        record(NAME, {"pairs": pairs})

    def merge(name: str, **options: Any) -> None:
        if name in result:
            return
        begin = time.monotonic()
        fusion = fuse(parents, processor=processor(), seed=seed, **options)
        facts = {"seconds": time.monotonic() - begin}
        facts |= {key: options[key] for key in ("task_scale", "density") if key in options}
        if learned := fusion.record.get("learned_weights"):
            facts |= {key: learned[key] for key in ("start", "starts", "steps")}
        add(name, predictions(fusion.model, test[0]), **facts)

    if "ensemble" not in result:
        single = [predictions(parent, test[0]) for parent in parents]
        add("base", predictions(base, test[0]))
        for half, logs in zip(HALVES, single, strict=True):
            add(half, logs)
        add("ensemble", torch.stack(single).logsumexp(0) - torch.tensor(2.0).log())
    merge("mean")
    merge("exact alignment, mean", align="exact")
    merge("slerp", merge="slerp")
    for method, grid in GRIDS.items():
        if f"{method}, chosen" not in result:
            scores = [validated(method, options, base, parents, validation, seed) for options in grid]
            chosen = grid[scores.index(max(scores))]
            merge(f"{method}, chosen", merge=method, base=base, task_weights="mean", **chosen)
        if method in ("ties", "dare-ties"):
            merge(method, merge=method, base=base)
    learning = {"data": samples, "samples": args.samples}
    merge("least squares", merge="least-squares", **learning)
    merge("learned", merge="learned", steps=args.steps, **learning)
    merge("learned, with base", merge="learned", steps=args.steps, base=base, **learning)


def validated(
    method: str,
    options: dict[str, Any],
    base: PreTrainedModel,
    parents: list[PreTrainedModel],
    images: Images,
    seed: int,
) -> float:
    """Return the accuracy on the validation images."""
    fusion = fuse(parents, base=base, merge=method, task_weights="mean", seed=seed, **options)
    return score(predictions(fusion.model, images[0]), images[1])["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--validation", type=int, default=2000, help="images that options are chosen on")
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=1000, help="unlabeled images")
    parser.add_argument("--steps", type=int, default=200, help="of learned weights")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = {name: split("cifar10", name) for name in ("train", "validation", "test")}
    rows["validation"] = rows["validation"].select(range(args.validation))
    rows["test"] = rows["test"].select(range(args.test))
    rows["samples"] = rows.pop("train").shuffle(seed=0).select(range(args.samples))
    stored = RESULTS / f"{NAME}.json"
    pairs = json.loads(stored.read_text())["pairs"] if stored.exists() else {}
    for seed in args.seeds:
        measure(seed, rows, args, pairs)
    print(table())


if __name__ == "__main__":
    main()
