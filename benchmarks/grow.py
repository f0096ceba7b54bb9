"""Measure fusions that grow against their parents, the ensemble, and parents that were widened by duplication.

python benchmarks/grow.py digits --steps 75
python benchmarks/grow.py antibody --steps 60 --samples 240
python benchmarks/grow.py antibody --steps 600 --samples 1600 --controls 1 --name grow-antibody-long
python benchmarks/grow.py books --steps 75 --samples 600

`digits`: two ViTs, each of which saw nine tenths of the scans of five digits and one tenth of the others. `antibody`:
two masked-language models that others trained, one of heavy and one of light chains. `books`: two Llamas, each of which
mostly read one of two books. Every row takes the same number of steps towards the same targets. The control is a
parent whose hidden units are copied until it has the size of the fusion. A unit and its copy write half each, so the
function stays, and noise tells them apart. Only the smallest and the largest size have controls. All figures are from
the test split.
"""

import argparse
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import PARENTS, record
from default import PAIRS, data, processor_of, teachers
from torch import nn
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.checkpoint.reading.load import load_model
from transfuse.cli.demo.digits import digits, halves, parent, processor
from transfuse.config.make import make
from transfuse.config.settings import Settings
from transfuse.data.load import load_samples
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING, ensemble_predictions
from transfuse.evaluation.evaluate import evaluate
from transfuse.evaluation.log_probabilities import predictions
from transfuse.evaluation.samples import measured_samples
from transfuse.fusion.fuse import merge
from transfuse.fusion.grow import GrowthPlan, growth, growth_plan
from transfuse.fusion.match import match
from transfuse.fusion.matched import Matched
from transfuse.fusion.sample_weighting import sample_weighting
from transfuse.merging.training.learned_weights import WeightDistillation

NOISE = 0.01  # of a copied unit, relative to its weights
Tests = dict[str, list[list[Batch]]]  # by kind of samples, the batches of every draw of hidden letters


def widened(model: PreTrainedModel, plan: GrowthPlan, seed: int) -> PreTrainedModel:
    """Return a model with the same function and the size of a fusion that grows: its first units exist twice."""
    wide = deepcopy(growth(model, plan).grown)
    tensors = model.state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, values in wide.state_dict().items():
        own = tensors[name]
        if own.shape == values.shape:
            values.copy_(own)
            continue
        reads = own.ndim == 2 and own.shape[1] != values.shape[1]
        units = own.shape[-1] if reads else len(own)
        copies = (values.shape[-1] if reads else len(values)) - units
        if reads:
            values.copy_(torch.cat([own[:, :copies] / 2, own[:, copies:], own[:, :copies] / 2], 1))
        else:
            noise = torch.randn(own[:copies].shape, generator=generator) * NOISE * own.std()
            values.copy_(torch.cat([own, own[:copies] + noise]))
    return wide


def batches_of(model: PreTrainedModel, rows: Any, prepared_by: Any, seed: int) -> list[Batch]:
    """Return labeled batches; the seed draws the hidden letters."""
    settings = make(Settings, {"seed": seed})
    samples = measured_samples(rows, settings, type(model).__name__, model.config)
    return list(samples.batches(model, model, settings, prepared_by))


def measure(tests: Tests, loss: Callable[[list[Batch]], Any]) -> dict[str, Any]:
    """Return loss and accuracy on each kind of test samples."""
    found: dict[str, Any] = {}
    for kind, draws in tests.items():
        metrics = [loss(batches) for batches in draws]
        found[kind] = {name: sum(getattr(each, name) for each in metrics) / len(draws) for name in ("loss", "accuracy")}
    return found


def ensemble(models: list[PreTrainedModel], weighting: str, batches: list[Batch]) -> Any:
    """Return the metrics of the weighted mean of the models' probabilities."""

    def predict_log(batch: Batch) -> Iterator[torch.Tensor]:
        even = [1 / len(models)] * len(models)
        found = ensemble_predictions(TEACHER_WEIGHTING[weighting], models, even, batch)  # type: ignore[index]
        yield found.clamp_min(1e-12).log()

    return predictions(predict_log, batches).metrics()


def rows_of(matched: Matched, tests: Tests, args: argparse.Namespace, track: Callable[[dict[str, Any]], None]) -> None:
    """Measure parents, ensembles, fusions and controls, and pass on each row."""
    models = [network.model for network in matched.networks]

    def keep(name: str, model: nn.Module, **facts: Any) -> None:
        assert isinstance(model, PreTrainedModel)
        ratio = model.num_parameters() / models[0].num_parameters()
        found = measure(tests, partial(evaluate, model))
        track({"name": name, "parameters": model.num_parameters(), "ratio": ratio, "test": found} | facts)

    for number, model in enumerate(models, 1):
        keep(f"parent {number}", model)
    for weighting in ("uniform", "auto"):
        found = measure(tests, partial(ensemble, models, weighting))
        count = sum(model.num_parameters() for model in models)
        track({"name": f"ensemble, {weighting}", "parameters": count, "ratio": 2.0, "test": found})
    plans = [None, *(growth_plan(models, ratio) for ratio in args.ratios)]
    sizes = [plan for index, plan in enumerate(plans) if plan not in plans[:index]]
    for plan in sizes:
        changed = {} if plan is None else {"grow": plan.ratio}
        fusion = merge(replace(matched, options=matched.options.model_copy(update=changed), growth=plan))
        assert isinstance(fusion.model, nn.Module)
        keep("fused", fusion.model, course=fusion.record["learned_weights"])
        for number in args.controls if plan in (sizes[0], sizes[-1]) else ():
            model = models[number - 1]
            control = deepcopy(model) if plan is None else widened(model, plan, number)
            course = moved(control, matched, args.steps)
            keep(f"parent {number}, widened", control, course=course)


def moved(control: PreTrainedModel, matched: Matched, steps: int) -> dict[str, Any]:
    """Move a parent by some steps towards the targets of the fusion, in place."""
    parents, split = teachers(matched)
    learning = replace(matched.options.learning(), steps=steps)
    return vars(
        WeightDistillation(control, parents, matched.weights, split, learning, sample_weighting(matched)).run("weights")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", choices=("digits", "antibody", "books"))
    parser.add_argument("--pairs", nargs="+", default=["1,2"], help="seeds of the digits' parents")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1, help="of the hidden letters of each test sequence")
    parser.add_argument(
        "--ratios", nargs="+", type=float, default=[1.25, 1.5, 2.0],
        help="of the parameters, besides 1; where they give one size, it is measured once",
    )  # fmt: skip
    parser.add_argument("--controls", nargs="+", type=int, default=[1, 2], help="the parents that are widened")
    parser.add_argument("--name", help="of the result; default: grow-SUBJECT")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pairs: dict[str, list[dict[str, Any]]] = {}
    for pair in args.pairs if args.subject == "digits" else ["heavy,light"]:
        models, given, parts, prepared_by = opened(args.subject, pair)
        tests = {
            kind: [batches_of(load_model(models[0]), rows, prepared_by, seed) for seed in range(args.draws)]
            for kind, rows in parts.items()
        }
        matched = match(
            models, load_samples(given), processor=prepared_by, steps=args.steps, samples=args.samples, merge="learned"
        )
        rows = pairs.setdefault(pair, [])

        def track(row: dict[str, Any], rows: list[dict[str, Any]] = rows) -> None:
            rows.append(row)
            losses = {kind: round(each["loss"], 4) for kind, each in row["test"].items()}
            print(row["name"], f"{row['ratio']:.2f}", losses, flush=True)
            facts = {"subject": args.subject, "steps": args.steps, "samples": args.samples, "draws": args.draws}
            record(args.name or f"grow-{args.subject}", {**facts, "pairs": pairs})

        rows_of(matched, tests, args, track)


def opened(subject: str, pair: str) -> tuple[list[Path], Any, dict[str, Any], Any]:
    """Return the parents, calibration samples, test samples by kind, and the processor."""
    if subject != "digits":
        given, parts = data(subject)
        return PAIRS[subject], given, parts, processor_of(PAIRS[subject][0])
    scans = digits()
    folders = [PARENTS / f"digits-{seed}" for seed in pair.split(",")]
    for folder, seed in zip(folders, pair.split(","), strict=True):
        parent(folder, scans, int(seed))
    return folders, scans["train"].remove_columns("label"), halves(scans["test"]), processor()


if __name__ == "__main__":
    main()
