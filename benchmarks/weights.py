"""Measure `--merge learned`, with the same training of the anchor as control, and the ensemble.

python benchmarks/weights.py --dataset fashion-mnist --pairs 1,2 2,3 3,1 --samples 20000 --steps 2000 --augment flip
python benchmarks/weights.py --dataset fashion-mnist-skewed --pairs 1,2 3,4 2,3 --samples 20000 --steps 2000 \
  --augment flip --teacher-weighting confidence
python benchmarks/weights.py --dataset tinyshakespeare-llama --pairs 1,2 3,4 5,6 --samples 1000 --batch-size 25 \
  --steps 500 --learning-rate 0.02 --limit 400

Training uses the calibration samples without labels. A fifth of them is the validation split, and layers are fitted to
at most 2,000 samples. All figures are from the test split. The control is the anchor, trained by the same steps towards
the same mean of both parents' streams and predictions. An interrupted run continues where it stopped.
"""

import argparse
import time
from copy import deepcopy
from dataclasses import replace
from statistics import mean
from typing import Any

import torch
from common import merged
from subjects import Judge, Subject, measure_pairs, pairs_parser
from teach import row

from transfuse.alignment.interface import aligned_weights
from transfuse.base.batch import first_samples
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING
from transfuse.distillation.validation import split_with_answers
from transfuse.fusion.align import align
from transfuse.fusion.calibration import calibrate
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.network.model import network, with_tensors


def over_pair(subject: Subject, seeds: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Return, by name, the metrics of the parents, their ensemble, the fitted and learned models, and the control."""
    device = torch.device(args.device)
    models = [subject.model(seed).to(device) for seed in seeds]
    networks = [network(model, device) for model in models]
    judge = Judge(subject, seeds[0], "test", args.limit)
    weights = [0.5, 0.5]
    weighting = TEACHER_WEIGHTING[args.teacher_weighting]
    found = {"anchor": row(judge.measure(models[0])), "other parent": row(judge.measure(models[1]))}
    found["ensemble"] = row(judge.ensemble(models))
    given = ("samples", "batch_size", "steps", "learning_rate", "augment", "teacher_weighting")
    chosen = make(Options, {"merge": "learned"} | {name: getattr(args, name) for name in given})
    context = calibrate(networks, networks[0].model, subject.samples("train"), chosen, judge.processor)
    alignments, _ = align(networks, weights, context, chosen)
    few = replace(context, batches=list(first_samples(context.batches, MAX_FITTED_SAMPLES)))
    for how, given in (("least-squares", few), ("learned", context)):
        start = time.perf_counter()
        fused, record = merged(
            networks, alignments, given, how, weighting=weighting, learning=chosen.learning(), seed=chosen.seed
        )
        seconds = time.perf_counter() - start
        found[how] = row(judge.measure(fused)) | {"seconds": seconds, "course": record.get("learned_weights")}
    parents = [with_tensors(networks[0].model, tensors) for tensors in aligned_weights(alignments)]
    splits = split_with_answers(parents[0], context.batches, "weights")
    control = deepcopy(parents[0])
    history = WeightDistillation(control, parents, weights, splits, chosen.learning(), weighting).run("weights")
    found["anchor, learned (control)"] = row(judge.measure(control)) | {"course": vars(history)}
    base = mean(found[name]["loss"] for name in ("anchor", "other parent"))
    print(seeds, {name: round(each["loss"] - base, 4) for name, each in found.items()}, flush=True)
    return found


def main() -> None:
    parser = pairs_parser(__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--learning-rate", type=float, default=0.01, help="fraction of its size that a tensor moves by")
    parser.add_argument("--augment", default="none")
    parser.add_argument("--device", default="cpu")
    measure_pairs("weights", parser, over_pair, "steps")


if __name__ == "__main__":
    main()
