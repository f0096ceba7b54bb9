"""Measure fusions of two ViTs of different widths, beside each of them taught by both.

python benchmarks/widths.py --steps 300

Each is the anchor once, and gives the fused model its width. The controls are the anchor itself, trained by the same
steps on the predictions of both parents or of the other one alone, on the same samples. The
uniform plan ignores the units. All figures are from the test split.
"""

import argparse
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from common import PARENTS, record, split
from default import measurer, processor_of
from transformers import PreTrainedModel

from transfuse import fuse, match
from transfuse.checkpoint.load import load_model
from transfuse.config.literals import LearningOptions
from transfuse.data.load import load_samples
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING
from transfuse.distillation.validation import split_with_answers
from transfuse.merging.learned_weights import WeightDistillation

WAYS: dict[str, dict[str, Any]] = {
    "closed form": {"merge": "least-squares"},
    "closed form, uniform plan (control)": {"merge": "least-squares", "flow": {"plan": "uniform"}},
    "learned": {"merge": "learned"},
}


def taught(models: list[PreTrainedModel], weights: list[float], batches: Any, steps: int) -> PreTrainedModel:
    """Return the first model after training on the predictions of all."""
    student = deepcopy(models[0])
    options = LearningOptions(steps=steps)
    weighting = TEACHER_WEIGHTING["auto"]
    WeightDistillation(student, models, weights, batches, options, weighting, (), 0, streams=False).run("weights")
    return student


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--narrow", type=Path, default=PARENTS / "cifar10-vit-64-1")
    parser.add_argument("--wide", type=Path, default=PARENTS / "cifar10-vit-128-1")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    given = load_samples(split("cifar10", "train").remove_columns("label"))
    rows: dict[str, dict[str, Any]] = {}
    for anchor, other in ((args.narrow, args.wide), (args.wide, args.narrow)):
        models = [anchor, other]
        measure = measurer(models, {"test": split("cifar10", "test")})
        found = rows.setdefault(f"anchor: {'narrow' if anchor == args.narrow else 'wide'}", {})

        def keep(name: str, model: Any, extra: dict[str, Any], to: Any = found, score: Any = measure) -> None:
            to[name] = score(model)["test"] | extra
            print(name, to[name], flush=True)
            record("widths", {"steps": args.steps, "samples": args.samples, "rows": rows})

        keep("anchor", anchor, {})
        keep("the other", other, {})
        steps = {"steps": args.steps}
        options: dict[str, Any] = {"samples": args.samples, "processor": processor_of(anchor)}
        for name, chosen in WAYS.items():
            fused = fuse(models, given, align="flow", **options, **chosen, **(steps if name == "learned" else {}))
            course = fused.record.get("learned_weights") or {}
            keep(name, fused.model, {"start": course.get("start"), "best": course.get("best")})
        loaded = [load_model(model).eval() for model in models]
        batches = split_with_answers(
            loaded[0], match(models, given, align="flow", **options).context.batches, "weights"
        )
        keep("anchor, taught by both (control)", taught(loaded, [0.5, 0.5], batches, args.steps), {})
        keep("anchor, taught by the other (control)", taught(loaded, [1e-9, 1.0], batches, args.steps), {})


if __name__ == "__main__":
    main()
