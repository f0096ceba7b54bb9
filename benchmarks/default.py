"""Measure the default fusion of ready pairs against its parents and its controls.

python benchmarks/default.py antibody --threads 2 --seeds 0 1 2
python benchmarks/default.py cifar10-small --threads 2

`antibody`: two masked-language models that others trained, one of heavy and one of light chains. `cifar10-small` and
`cifar10-paper`: two ViTs that differ only in their seed. `views`: one ViT saw Fashion-MNIST at the center of a canvas,
the other anywhere on it. `classes`: each ViT saw nine tenths of one half of the classes. `gpt2`: two GPT-2s of Tiny
Shakespeare that differ only in their seed. The default is `transfuse fuse A B --data D`. The controls are the parents,
moved by the steps that the default took towards the same targets. With `--as-long`, only parents are measured that
train with the schedule of the default, for its time. All figures are from the test split.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import DATA, PARENTS, load, record, split
from datasets import Dataset, load_dataset
from texts import passages
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel
from trust import KINDS

from transfuse import evaluate, fuse, match
from transfuse.alignment.interface import aligned_weights
from transfuse.data.load import load_samples
from transfuse.distillation.history import History
from transfuse.distillation.validation import BatchSplit, split_with_answers
from transfuse.fusion.matched import Matched
from transfuse.fusion.sample_weighting import sample_weighting
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.network.model import with_tensors

SHARED = DATA.parent
DRAWS = 3  # of the hidden letters of each sequence
PAIRS = {
    "antibody": [SHARED / "real" / "antibody-heavy", SHARED / "real" / "antibody-light"],
    "cifar10-small": [SHARED / "parents" / "cifar10-vit-a", SHARED / "parents" / "cifar10-vit-b"],
    "cifar10-paper": [SHARED / "parents" / "cifar10-vit-paper-1", SHARED / "parents" / "cifar10-vit-paper-2"],
    "views": [PARENTS / f"fashion-mnist-vit-64-{view}-1" for view in ("centred", "moved")],
    "classes": [PARENTS / f"fashion-mnist-vit-64-skewed-{seed}" for seed in (1, 2)],
    "crowd": [PARENTS / f"fashion-mnist-vit-crowd-5-1-{number}" for number in range(5)],
    "gpt2": [PARENTS / f"tinyshakespeare-gpt2-96-{seed}" for seed in (1, 2)],
    "books": [PARENTS / f"books-llama-96-{seed}" for seed in (1, 2)],
}


def data(pair: str) -> tuple[Dataset, dict[str, Dataset]]:
    """Return the calibration samples, and the test samples by kind."""
    if pair in KINDS:
        kind = KINDS[pair]
        given = kind.calibration()
        labels = [name for name in given.column_names if name == "label"]
        return given.remove_columns(labels), {name: rows("test") for name, rows in kind.parts.items()}
    if pair == "gpt2":
        return passages("train", "tinyshakespeare"), {"test": passages("test", "tinyshakespeare")}
    if pair != "antibody":
        name = "fashion-mnist" if pair == "crowd" else "cifar10"
        return split(name, "train").remove_columns("label"), {"test": split(name, "test")}
    given, test = (
        load_dataset("json", data_files=str(SHARED / "real" / f"antibody.{name}.jsonl"), split="train")
        for name in ("calibration", "test")
    )
    return given, {chain: test.filter(lambda row, chain=chain: row["chain"] == chain) for chain in ("VH", "VL")}


def processor_of(model: Path) -> Any:
    """Return the image processor or the tokenizer of a model."""
    return (AutoImageProcessor if "vit" in model.name else AutoTokenizer).from_pretrained(model)


def measurer(models: list[Path], tests: dict[str, Dataset]) -> Callable[[Any], dict[str, dict[str, float]]]:
    """Return a function that measures the loss and accuracy of a model on each kind of test samples."""
    masked = "antibody" in models[0].name
    processor = processor_of(models[0])

    def measure(model: Any) -> dict[str, dict[str, float]]:
        found = {}
        for kind, rows in tests.items():
            draws = [evaluate(model, rows, processor=processor, seed=seed) for seed in range(DRAWS if masked else 1)]
            metrics = [next(iter(draw.models.values())).metrics for draw in draws]
            means = {name: sum(getattr(each, name) for each in metrics) / len(metrics) for name in ("loss", "accuracy")}
            found[kind] = means
        return found

    return measure


def teachers(matched: Matched) -> tuple[list[PreTrainedModel], BatchSplit]:
    """Return the parents in one basis, and the samples that they teach, in two parts."""
    parents = [with_tensors(matched.networks[0].model, tensors) for tensors in aligned_weights(matched.alignments)]
    return parents, split_with_answers(parents[0], matched.context.batches, "weights")


def moved_parents(matched: Matched, steps: int | None) -> Iterator[tuple[PreTrainedModel, History]]:
    """Yield each parent after training towards the targets that all of them give.

    Args:
        steps: how many are taken; None: the schedule of the default.
    """
    parents, halves = teachers(matched)
    learning = replace(matched.options.learning(), steps=steps)
    weighting = sample_weighting(matched)
    for parent in parents:
        control = deepcopy(parent)
        yield control, WeightDistillation(control, parents, matched.weights, halves, learning, weighting).run("weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--minutes", type=float, help="default: that of the command")
    parser.add_argument("--limit", type=int, help="number of test samples of each kind; default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the default; the first one of all else")
    parser.add_argument("--threads", type=int, default=1)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--controls", action="store_true", help="measure only the controls of the recorded run again")
    only.add_argument("--as-long", action="store_true", help="measure only controls that train as long as the default")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models = PAIRS[args.pair]
    given, tests = data(args.pair)
    tests = {kind: rows.select(range(min(args.limit or len(rows), len(rows)))) for kind, rows in tests.items()}
    measure = measurer(models, tests)
    name = f"default-{args.pair}"
    rows: dict[str, Any] = {}
    if args.as_long:
        name += "-as-long"
    elif args.controls:
        rows = load(name)["rows"]
    else:
        rows = {f"parent {number}": measure(model) for number, model in enumerate(models, 1)}
    options = {"seed": args.seeds[0]} | ({"minutes": args.minutes} if args.minutes else {})
    processor = processor_of(models[0])

    def keep(row_name: str, row: dict[str, Any]) -> None:
        rows[row_name] = row
        print(row_name, json.dumps(row, default=str)[:400], flush=True)
        record(name, {"pair": args.pair, "limit": args.limit, "rows": rows})

    ways: dict[str, dict[str, Any]] = {
        "plain average": {"align": "none"},
        "quick": {"effort": "quick"},
        "default": options,
    }
    ways |= {f"default, seed {seed}": options | {"seed": seed} for seed in args.seeds[1:]}
    for way, chosen in () if args.controls or args.as_long else ways.items():
        begin = time.perf_counter()
        samples = None if chosen.get("align") else load_samples(given)
        fused = fuse(models, samples, processor=processor, **{"seed": args.seeds[0]} | chosen)
        seconds = time.perf_counter() - begin
        keep(way, measure(fused.model) | {"seconds": seconds, "course": fused.record.get("learned_weights")})
    matched = match(models, load_samples(given), processor=processor, **options)
    steps = None if args.as_long else rows["default"]["course"]["steps"] or None
    moved = "moved as long" if args.as_long else "moved"
    for number, (control, history) in enumerate(moved_parents(matched, steps), 1):
        keep(f"parent {number}, {moved} (control)", measure(control) | {"course": vars(history)})


if __name__ == "__main__":
    main()
