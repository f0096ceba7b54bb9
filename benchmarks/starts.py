"""Measure where a fused start wins: descent from fitted layers, from each parent, and from a parent with noise.

python benchmarks/starts.py classes
python benchmarks/starts.py crowd --steps 150 500 2000 --samples 100 2000 10000
python benchmarks/starts.py antibody --steps 50 150 500 --samples 100 1600

All starts take the same steps towards the same targets, the parents' weighted predictions and streams, at the default
learning rate that falls along a cosine. The noise has, tensor by tensor, the size of the difference between the fitted
layers and the first parent. Numbers of samples are compared at `--at` steps. An interrupted run continues where it
stopped. All figures are from the test split.
"""

import argparse
import json
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import torch
from common import RESULTS, record
from default import PAIRS, data, measurer, processor_of, teachers
from transformers import PreTrainedModel

from transfuse import fuse, match
from transfuse.config.literals import LearningOptions
from transfuse.data.load import load_samples
from transfuse.data.samples import Samples
from transfuse.fusion.sample_weighting import sample_weighting
from transfuse.merging.training.learned_weights import WeightDistillation

FITTED, NOISE = "fitted layers", "parent 1 with noise"


@torch.no_grad()
def with_noise(parent: PreTrainedModel, fitted: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return the parent with normal noise of the size of its difference from the fitted layers."""
    noisy = deepcopy(parent)
    generator = torch.Generator().manual_seed(seed)
    targets = dict(fitted.named_parameters())
    for name, values in noisy.named_parameters():
        noise = torch.randn(values.shape, generator=generator)
        values.add_(noise, alpha=float((targets[name] - values).norm() / noise.norm()))
    return noisy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pair", choices=PAIRS)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 150, 500, 2000])
    parser.add_argument("--samples", type=int, nargs="+", default=[100, 1000, 10000], help="the middle one for --steps")
    parser.add_argument("--at", type=int, default=500, help="steps for all numbers of samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    models = PAIRS[args.pair]
    given, tests = data(args.pair)
    measure = measurer(models, tests)
    processor = processor_of(models[0])
    name = f"starts-{args.pair}"
    path = RESULTS / f"{name}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    middle = args.samples[len(args.samples) // 2]
    runs = [(count, args.at) for count in args.samples] + [(middle, steps) for steps in args.steps]

    def run(samples: Samples, count: int, wanted: list[int]) -> None:
        """Measure every start with some samples, for every number of steps."""
        matched = match(models, samples, processor=processor, seed=args.seed, samples=count)
        parents, halves = teachers(matched)
        weighting = sample_weighting(matched)
        fitted = fuse(models, samples, processor=processor, seed=args.seed, samples=count, merge="least-squares").model
        starts = {FITTED: fitted} | {f"parent {number}": parent for number, parent in enumerate(parents, 1)}
        starts[NOISE] = with_noise(parents[0], fitted, args.seed)
        learning: LearningOptions = matched.options.learning()
        before = {start: measure(model) for start, model in starts.items()}
        for steps in wanted:
            for start, model in starts.items():
                key = {"samples": count, "steps": steps, "seed": args.seed, "start": start}
                if any(key.items() <= row.items() for row in rows):
                    continue
                trained = deepcopy(model)
                options = replace(learning, steps=steps)
                history = WeightDistillation(
                    trained, parents, matched.weights, halves, options, weighting, seed=args.seed
                ).run("weights")
                rows.append(key | {"before": before[start], "test": measure(trained), "course": asdict(history)})
                print(json.dumps({**rows[-1], "course": history.excess[-1]}), flush=True)
                record(name, {"pair": args.pair, "rows": rows})

    for count in dict.fromkeys(count for count, _ in runs):
        run(load_samples(given).take(count, args.seed), count, sorted({steps for each, steps in runs if each == count}))


if __name__ == "__main__":
    main()
