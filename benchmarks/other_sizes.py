"""Fuse two models of different sizes, beside parents that take the same steps.

python benchmarks/other_sizes.py --seeds 1 2 3 --steps 75
python benchmarks/parents.py --dataset cifar10 --width 64 --heads 2 --seeds 1 --epochs 20 --name cifar10-vit-narrow
python benchmarks/parents.py --dataset cifar10 --blocks 3 --seeds 1 --epochs 20 --name cifar10-vit-shallow
python benchmarks/other_sizes.py cifar10 --steps 300
python benchmarks/parents_lm.py --kind llama --text books --width 96 --heads 4 --epochs 8 --seeds 1
python benchmarks/parents_lm.py --kind llama --text books --width 144 --heads 6 --epochs 8 --seeds 2
python benchmarks/parents_lm.py --kind llama --text books --width 96 --heads 8 --kv-heads 2 --head-size 12 \
  --epochs 8 --seeds 1 --name books-llama-small-heads
python benchmarks/other_sizes.py books --steps 75

Digits: each parent sees nine tenths of the scans of its own digits (even or odd) and one tenth of the others. The small
parent is narrower than the large one, or has fewer blocks, or both. CIFAR-10: all parents see all images. Books: the
narrow Llamas mostly read plays, and the wide one a novel. One narrow Llama has other heads, too: four query heads of 12
channels for each key-value head instead of two of 24. Each parent is the anchor once. The controls are both parents,
brought to the sizes of the anchor and trained by the same steps towards the same targets, and for widths the maps of
`--align flow` and its uniform plan. All figures are from the test split.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import crowd
import torch
from common import PARENTS, load, record, split, spread
from crowd import SUBJECTS
from datasets import Dataset
from default import SHARED, processor_of, teachers
from grow import batches_of, ensemble
from rows import markdown
from texts import passages
from transformers import PreTrainedModel

from transfuse import fuse
from transfuse.base.batch import Batch
from transfuse.checkpoint.reading.load import load_model
from transfuse.config.literals import LearningOptions
from transfuse.data.image.images import image_preparer
from transfuse.data.load import load_samples
from transfuse.data.samples import Samples
from transfuse.evaluation.evaluate import evaluate
from transfuse.fusion.match import match
from transfuse.fusion.sample_weighting import sample_weighting
from transfuse.merging.training.learned_weights import WeightDistillation

SUBJECT = SUBJECTS["digits"]
LARGE = {"hidden_size": 96, "num_hidden_layers": 3, "intermediate_size": 192, "num_attention_heads": 6}
NARROW = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
SHALLOW = {"num_hidden_layers": 2}
CHANNELS = {"digits": 1, "cifar10": 3}
SMALL = {"narrower": NARROW, "fewer blocks": SHALLOW, "both": NARROW | SHALLOW}
WAYS: dict[str, dict[str, Any]] = {
    "`--align flow --merge learned`": {"align": "flow", "merge": "learned"},
    "`--align flow --merge least-squares`": {"align": "flow", "merge": "least-squares"},
    "the same, uniform plan (control)": {"align": "flow", "merge": "least-squares", "flow": {"plan": "uniform"}},
}
Keep = Callable[[str, Any], None]
Pair = tuple[str, PreTrainedModel, PreTrainedModel]  # how the second one is smaller, and both


@dataclass(frozen=True)
class Setting:
    """What is fused, and how.

    Attributes:
        given: unlabeled samples.
        tests: prepared test samples.
        options: of `fuse`.
    """

    given: Samples
    tests: Sequence[Batch]
    options: dict[str, Any]


def digit_pairs(seeds: Sequence[int]) -> Iterator[Pair]:
    """Train and yield pairs of ViTs that know different digits."""
    data = SUBJECT.splits()["train"]
    for seed in seeds:
        large = parent(LARGE, data, 0, seed)
        for kind, sizes in SMALL.items():
            yield kind, large, parent(LARGE | sizes, data, 1, seed)


def stored_pairs(large: Path, small: Mapping[str, str]) -> Iterator[Pair]:
    """Yield pairs of stored parents."""
    for kind, name in small.items():
        yield kind, load_model(large).eval(), load_model(PARENTS / name).eval()


def opened(name: str, seeds: Sequence[int]) -> tuple[Iterator[Pair], Setting]:
    """Return the pairs of parents, and what they are fused and measured with."""
    if name == "books":
        large = PARENTS / "books-llama-144-2"
        pairs = {"narrower": "books-llama-96-1", "narrower, other heads": "books-llama-small-heads-1"}
        prepared_by = processor_of(large)
        tests = batches_of(load_model(large), passages("test", "books"), prepared_by, 0)
        given = load_samples(passages("train", "books"))
        return stored_pairs(large, pairs), Setting(given, tests, {"samples": 600, "processor": prepared_by})
    large = SHARED / "parents" / "cifar10-vit-a"
    if name == "digits":
        data, prepared_by, samples, pairs = SUBJECT.splits(), SUBJECT.processor, 1000, digit_pairs(seeds)
    else:
        data = {part: split("cifar10", part) for part in ("train", "test")}
        prepared_by, samples = processor_of(large), 2000
        pairs = stored_pairs(large, {"narrower": "cifar10-vit-narrow-1", "fewer blocks": "cifar10-vit-shallow-1"})
    given = load_samples(data["train"].remove_columns("label"))
    tests = list(load_samples(data["test"]).batches(image_preparer(prepared_by, CHANNELS[name]), 500))
    return pairs, Setting(given, tests, {"samples": samples, "processor": prepared_by})


def parent(sizes: Mapping[str, int], data: Dataset, number: int, seed: int) -> PreTrainedModel:
    """Train one of two parents."""
    heads = {"num_attention_heads": sizes["num_attention_heads"]}
    own = {name: size for name, size in sizes.items() if name not in heads}
    before, crowd.SHARED = crowd.SHARED, crowd.SHARED | heads
    try:
        return crowd.parent(replace(SUBJECT, sizes=SUBJECT.sizes | own), data, number, 2, seed)
    finally:
        crowd.SHARED = before


def measured(models: list[PreTrainedModel], setting: Setting, steps: int, keep: Keep, flow: bool) -> None:
    """Measure every way to fuse two models into the sizes of the first."""
    given, options = setting.given, setting.options
    keep("anchor", models[0])
    keep("other parent", models[1])
    keep("`--effort quick`", fuse(models, given, effort="quick", **options).model)
    keep("**default**", fuse(models, given, steps=steps, **options).model)
    matched = match(models, given, steps=steps, **options)
    parents, split = teachers(matched)
    whole = matched.inputs.whole  # larger models teach as they are, and only their predictions
    taught_by = [whole.get(number, parent) for number, parent in enumerate(parents)]
    learning, weighting = LearningOptions(steps=steps), sample_weighting(matched)
    for name, number in (("anchor", 0), ("other parent, in the anchor's sizes", 1)):
        control = deepcopy(parents[number])
        training = WeightDistillation(
            control, taught_by, matched.weights, split, learning, weighting, streams=not whole
        )
        training.run("weights")
        keep(f"{name}, trained by the same steps (control)", control)
    for name, way in WAYS.items() if flow else ():
        trained = {"steps": steps} if way["merge"] == "learned" else {}
        keep(name, fuse(models, given, **options, **way, **trained).model)
    keep("ensemble, weighted as the default", ensemble(models, "auto", list(setting.tests)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="digits", choices=("digits", "cifar10", "books"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the digits' parents")
    parser.add_argument("--steps", type=int, default=75)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pairs, setting = opened(args.data, args.seeds)
    rows: dict[str, dict[str, dict[str, list[dict[str, float]]]]] = {}
    for kind, large, small in pairs:
        for anchor, models in {"large": [large, small], "small": [small, large]}.items():
            print(f"{kind}, {anchor} anchor", flush=True)
            found = rows.setdefault(kind, {}).setdefault(anchor, {})

            def keep(name: str, model: Any, to: dict[str, list[dict[str, float]]] = found) -> None:
                metrics = evaluate(model, setting.tests) if isinstance(model, torch.nn.Module) else model
                to.setdefault(name, []).append({"loss": metrics.loss, "accuracy": metrics.accuracy})
                print(f"{name:70} {metrics.loss:.3f} {100 * metrics.accuracy:.1f} %", flush=True)
                record(f"other-sizes-{args.data}", {"seeds": args.seeds, "steps": args.steps, "rows": rows})

            flow = kind == "narrower" and args.data != "books"  # it refuses Llamas with other numbers of heads
            measured(models, setting, args.steps, keep, flow)


def table(data: str) -> str:
    """Return accuracy and test loss of every way, by what is smaller and by the anchor."""
    found = load(f"other-sizes-{data}")["rows"]
    columns = [(kind, anchor) for kind, anchors in found.items() for anchor in anchors]
    names = list(dict.fromkeys(name for kind, anchor in columns for name in found[kind][anchor]))

    def cell(results: list[dict[str, float]] | None) -> str:
        if not results:
            return ""
        accuracies, losses = ([result[name] for result in results] for name in ("accuracy", "loss"))
        return f"{spread(accuracies, 1, 100)}, {spread(losses)}"

    lines = [[name, *(cell(found[kind][anchor].get(name)) for kind, anchor in columns)] for name in names]
    return markdown(["accuracy (%), loss", *(f"{kind}: {anchor} anchor" for kind, anchor in columns)], lines)


if __name__ == "__main__":
    main()
