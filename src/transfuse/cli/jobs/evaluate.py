"""The work of `transfuse eval` and `transfuse path`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from transfuse.base.budget import check_free_memory
from transfuse.base.progress import Progress
from transfuse.checkpoint.load import load_empty
from transfuse.checkpoint.output import atomic_file
from transfuse.cli.jobs.inspection import batches_of, fusible, inspect, ready
from transfuse.config.options import Options
from transfuse.data.samples import load_samples
from transfuse.data.tasks import check_measurable, task
from transfuse.errors import ConfigError
from transfuse.evaluation.comparison import Evaluation, evaluation
from transfuse.evaluation.evaluate import LossPath as Line
from transfuse.evaluation.evaluate import evaluate, predict_answers
from transfuse.evaluation.evaluate import measure_path as walk
from transfuse.evaluation.metrics import Predictions
from transfuse.fusion.inputs import load
from transfuse.fusion.match import align
from transfuse.fusion.plan import SINGLE, START, Estimate
from transfuse.network.model import as_dtype


def eval_job(models: Sequence[str], data: str, limit: int | None, options: Options, progress: Progress) -> Evaluation:
    """Every model on labelled data, the first beside the others."""
    device = options.torch_device()
    if len(set(models)) < len(models):
        raise ConfigError(f"{next(name for name in models if models.count(name) > 1)}: given twice; give it once")
    tasks = [task(each) for each in inspect(models, options, check_measurable)]
    given = load_samples(data)
    samples = [does.labelled(given).take(limit, options.seed) for does in tasks]
    largest = max(load_empty(name, pickle=options.pickle_policy()).num_parameters() for name in models)
    check_free_memory(2 * SINGLE * largest, device, "evaluating", progress.warn)  # as loaded, and in single precision
    found: dict[str, Predictions] = {}
    classes: dict[str, dict[int, str]] = {}
    for index, name in enumerate(progress.track(models, "evaluating")):
        model = as_dtype(load(name, options), torch.float32).to(device)
        classes[name] = dict(model.config.id2label or {})
        found[name] = predict_answers(model, batches_of(samples[index], model, name, options))
        del model  # before the next one is loaded
    measures = tuple(name for name in tasks[0].measures if all(name in does.measures for does in tasks))
    return evaluation(found, classes, measures, options.seed)


def path_job(
    anchor: str, other: str, data: str, limit: int | None, points: int, options: Options, progress: Progress
) -> Line:
    """The line between two models after alignment."""
    inspect((anchor, other), options, fusible)
    empty = [load_empty(name, pickle=options.pickle_policy()) for name in (anchor, other)]
    check_free_memory(Estimate(empty, options).loaded - START, options.torch_device(), "aligning", progress.warn)
    networks, batches, choices = ready((anchor, other), data, limit, options)
    (aligned,), _ = align(networks, [0.5, 0.5], choices, options, progress=progress)
    parents = evaluate(networks[0].model, batches), evaluate(networks[1].model, batches)
    steps = iter(progress.track(range(points), "walking"))
    next(steps)
    return walk(
        networks[0].model, aligned.anchor, aligned.carried, parents, batches, points, lambda position: next(steps, None)
    )


def save_plot(lines: Mapping[str, Line], target: Path) -> None:
    """Write the picture, all of it or nothing. Raises `OutputError`."""
    from transfuse.report.plots import save_path_plot

    with atomic_file(target) as partial:
        save_path_plot(lines, partial)
