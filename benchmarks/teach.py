"""Train the fused model, and the anchor as control, on both parents' predictions for unlabeled samples.

python benchmarks/teach.py --dataset fashion-mnist-skewed --pairs 1,2 3,4 5,6 --epochs 2 --rates 3e-4
python benchmarks/teach.py --dataset tinyshakespeare-llama --pairs 1,2 3,4 5,6 --samples 600 --batch-size 25 --epochs 5
python benchmarks/teach.py --dataset books-llama --pairs 1,2 3,4 5,6 --samples 600 --batch-size 25 --epochs 5 \
  --limit 456 --teacher-weighting confidence

The fusion is exact alignment by weights, with layers fitted on --samples of the training split, no labels. Both
models are then trained with the same schedule on the parents' predictions for the whole unlabeled training split. The
predictions are averaged or weighted (--teacher-weighting confidence). For each model, the rate among --rates with the
lowest validation loss is used. All figures are from the test split. An interrupted run continues where it stopped.
"""

import argparse
from dataclasses import asdict
from typing import Any

from subjects import Judge, Subject, measure_pairs, pairs_parser
from training import fastest_precision
from transformers import PreTrainedModel

from transfuse import finetune, fuse
from transfuse.evaluation.evaluate import Metrics


def over_pair(subject: Subject, seeds: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Return, by name, the metrics of the parents, their ensemble, the fusion, and both trained models."""
    models = [subject.model(seed) for seed in seeds]
    judge = Judge(subject, seeds[0], "test", args.limit)
    fused = fuse(
        models, subject.samples("train"), processor=judge.processor, samples=args.samples, batch_size=args.batch_size,
        merge="least-squares",
    ).model  # fmt: skip
    found = {"anchor": row(judge.measure(models[0])), "other parent": row(judge.measure(models[1]))}
    found |= {"ensemble": row(judge.ensemble(models)), "fused": row(judge.measure(fused))}
    for name, start in (("fused, taught", fused), ("anchor, taught (control)", models[0])):
        rate, taught = best(subject, start, models, judge, args)
        found[name] = row(judge.measure(taught)) | {"learning_rate": rate}
    print(seeds, {name: round(each["loss"], 4) for name, each in found.items()}, flush=True)
    return found


def best(
    subject: Subject, start: PreTrainedModel, parents: list[PreTrainedModel], judge: Judge, args: argparse.Namespace
) -> tuple[float, PreTrainedModel]:
    """Return the learning rate with the lowest validation loss, and the model trained with it."""
    validation = Judge(subject, judge.seed, "validation", args.limit)
    schedule = subject.schedule | {
        "label_smoothing": 0.0,
        "precision": fastest_precision(start.device),
        "epochs": args.epochs,
    }
    tried = []
    for rate in args.rates:
        tuned = finetune(
            start, subject.samples("train"), parents, processor=judge.processor, distill=1.0, learning_rate=rate,
            teacher_weighting=args.teacher_weighting, **schedule,
        )  # fmt: skip
        loss = validation.measure(tuned.model).loss if len(args.rates) > 1 else 0.0
        tried.append((loss, rate, tuned.model))
    _, rate, model = min(tried, key=lambda each: each[0])
    return rate, model


def row(metrics: Metrics) -> dict[str, Any]:
    """Return the recorded metrics of a measurement."""
    return {name: value for name, value in asdict(metrics).items() if name in ("loss", "accuracy", "samples")}


def main() -> None:
    parser = pairs_parser(__doc__)
    parser.add_argument("--epochs", type=float, default=10.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3])
    measure_pairs("teach", parser, over_pair, "epochs")


if __name__ == "__main__":
    main()
