"""Carry a fine-tune of one base to another base, with controls: a ViT that was tuned on images turned by a quarter.

python benchmarks/carry_parents.py --seeds 1 2 3
python benchmarks/carry.py --pairs 1,2 2,3 3,1

The task is to classify turned images; the old task is to classify upright ones. Samples are unlabeled images that no
model has seen: turned ones, and for `keep` other, upright ones. No option was chosen on any data. `taught` trains the
new base on the predictions of the tuned model for the same turned images, or on those of both models for all images,
weighted by their confidence. `tuned directly` trains it as the tuned model was trained, with labels, and is the upper
end. All figures are from the test split.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from carry_parents import folder, turned
from carry_table import table
from common import RESULTS, record, split
from datasets import Dataset, concatenate_datasets
from one_base import predictions, score
from one_base_parents import prepared, processor
from PIL import Image
from transformers import PreTrainedModel, ViTForImageClassification

import transfuse
from transfuse.merging.mean import mean
from transfuse.network.model import network, with_tensors

NAME = "carry-cifar10"
BATCH = 50  # samples of a step of the controls that are taught
FIRST_SAMPLE = 30_000  # of the training split; the images before it were seen by some model


def opened(seed: int, name: str) -> ViTForImageClassification:
    """Return a trained model."""
    return ViTForImageClassification.from_pretrained(folder(seed, name)).eval()


def without_labels(rows: Dataset, turn: bool) -> Dataset:
    """Return the images alone, turned by a quarter or upright."""
    images = [image.transpose(Image.Transpose.ROTATE_90) if turn else image for image in rows["image"][:]]
    return Dataset.from_dict({"image": images}, features=rows.remove_columns("label").features)


def added(base: PreTrainedModel, tuned: PreTrainedModel, new_base: PreTrainedModel) -> PreTrainedModel:
    """Return the new base plus the difference of the weights, without any alignment."""
    networks = [network(model, torch.device("cpu")) for model in (new_base, base, tuned)]
    return with_tensors(new_base, mean([each.tensors for each in networks], [1.0, -1.0, 1.0]))


def measure(pair: tuple[int, int], args: argparse.Namespace, pairs: dict[str, Any]) -> None:
    """Measure every method for one pair, and record each at once. Those that are recorded are not measured again."""
    first, second = pair
    base, tuned, new_base = opened(first, "base"), opened(first, "tuned"), opened(second, "base")
    rows = split("cifar10", "train").select(range(FIRST_SAMPLE, FIRST_SAMPLE + 2 * args.samples))
    task = without_labels(rows.select(range(args.samples)), turn=True)
    old = without_labels(rows.select(range(args.samples, 2 * args.samples)), turn=False)
    images, labels = prepared(split("cifar10", "test").select(range(args.test)), processor())
    result: dict[str, Any] = pairs.setdefault(f"{first},{second}", {})

    def add(name: str, make: Callable[[], PreTrainedModel]) -> None:
        if name in result:
            return
        begin = time.monotonic()
        model = make()
        seconds = time.monotonic() - begin
        scores = [score(predictions(model, each), labels) for each in (turned(images), images)]
        result[name] = {"task": scores[0], "old": scores[1], "seconds": seconds}
        print(pair, name, result[name], flush=True)
        record(NAME, {"pairs": pairs})

    def carried(**options: Any) -> PreTrainedModel:
        return transfuse.carry(base, tuned, new_base, processor=processor(), **options).model

    def taught(
        samples: Dataset, teachers: list[PreTrainedModel], start: PreTrainedModel = new_base, **options: Any
    ) -> PreTrainedModel:
        given = {"epochs": args.steps * BATCH // len(samples), "batch_size": BATCH, "distill": 1.0} | options
        return transfuse.finetune(start, samples, teachers=teachers, processor=processor(), **given).model

    few, few_old = (rows.select(range(args.few)) for rows in (task, old))
    both = concatenate_datasets([task, old])
    by_confidence = {"teacher_weighting": "confidence"}

    add("base", lambda: base)
    add("new base", lambda: new_base)
    add("tuned", lambda: tuned)
    add("tuned directly, with labels", lambda: opened(second, "tuned"))
    add("weights added, not aligned", lambda: added(base, tuned, new_base))
    add("carry", carried)
    add("carry, with samples", lambda: carried(data=task))
    add("carry, with samples and samples to keep", lambda: carried(data=task, keep=old))
    add("taught by the tuned model", lambda: taught(task, [tuned]))
    add("taught by tuned and new base", lambda: taught(both, [tuned, new_base], **by_confidence))
    add("carry, with samples, then taught by tuned", lambda: taught(task, [tuned], carried(data=task)))
    add(f"carry, with {args.few} samples", lambda: carried(data=few))
    add(f"carry, with {args.few} samples and {args.few} to keep", lambda: carried(data=few, keep=few_old))
    add(f"taught by the tuned model, {args.few} samples", lambda: taught(few, [tuned]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", nargs="+", default=["1,2", "2,3", "3,1"], help="seeds of base and new base")
    parser.add_argument("--samples", type=int, default=1000, help="unlabeled images of the task, and as many to keep")
    parser.add_argument("--few", type=int, default=100, help="the same for few samples")
    parser.add_argument("--steps", type=int, default=200, help="of the controls that are taught")
    parser.add_argument("--test", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    stored = RESULTS / f"{NAME}.json"
    pairs = json.loads(stored.read_text())["pairs"] if stored.exists() else {}
    for pair in args.pairs:
        first, _, second = pair.partition(",")
        measure((int(first), int(second)), args, pairs)
    print(table())


if __name__ == "__main__":
    main()
