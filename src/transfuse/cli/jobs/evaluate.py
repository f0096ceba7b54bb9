"""The work of `transfuse eval` and `transfuse path`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from transfuse.base.budget import check_free_memory
from transfuse.base.progress import Progress
from transfuse.checkpoint.load import load_empty
from transfuse.checkpoint.output import atomic_file
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible, load_for_measurement
from transfuse.config.options import Options, Settings
from transfuse.data.tasks import check_measurable
from transfuse.evaluation.comparison import Evaluation
from transfuse.evaluation.evaluate import LossPath as Line
from transfuse.evaluation.evaluate import evaluate
from transfuse.evaluation.evaluate import measure_path as walk
from transfuse.evaluation.models import evaluate_models
from transfuse.fusion.match import align
from transfuse.fusion.plan import STARTUP_BYTES, Estimate


def eval_job(models: Sequence[str], data: str, limit: int | None, options: Options, progress: Progress) -> Evaluation:
    """Evaluate every model on labeled data, and compare the first with the others."""
    options.torch_device()
    check_checkpoints(models, options, check_measurable)
    shared = options.model_dump(include=set(Settings.model_fields), exclude_unset=True)
    return evaluate_models(models, data, limit, progress=progress, **shared)


def path_job(
    anchor: str, other: str, data: str, limit: int | None, points: int, options: Options, progress: Progress
) -> Line:
    """The line between two models after alignment."""
    check_checkpoints((anchor, other), options, check_fusible)
    empty = [load_empty(name, pickle=options.pickle_policy()) for name in (anchor, other)]
    check_free_memory(
        Estimate(empty, options).loaded_bytes - STARTUP_BYTES, options.torch_device(), "aligning", progress.warn
    )
    networks, batches, choices = load_for_measurement((anchor, other), data, limit, options)
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
