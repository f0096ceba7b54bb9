"""Run `transfuse eval`, `transfuse path` and `transfuse landscape`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from transfuse.alignment.interface import aligned_weights
from transfuse.base.budget import check_free_memory
from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.load import load_empty
from transfuse.checkpoint.writing.output import atomic_file
from transfuse.cli.jobs.inspection import check_checkpoints, check_fusible, load_for_measurement
from transfuse.config.options import Options
from transfuse.data.samples import Samples
from transfuse.errors import DataError
from transfuse.evaluation.comparison import Evaluation
from transfuse.evaluation.evaluate import LossPath, evaluate, measure_path
from transfuse.evaluation.landscape import Landscape, measure_landscape
from transfuse.evaluation.metrics import known_measures
from transfuse.evaluation.models import evaluate_models
from transfuse.evaluation.references import parents_in_one_basis
from transfuse.fusion.align import align
from transfuse.fusion.models.compatible import with_anchor_form
from transfuse.fusion.planning.plan import STARTUP_BYTES, Estimate
from transfuse.fusion.sizes.samples import SizeSamples


def eval_job(models: Sequence[str], data: str, limit: int | None, options: Options, progress: Progress) -> Evaluation:
    """Evaluate every model on labeled data, and compare the first with the others.

    Raises:
        TransfuseError: a model cannot be read or measured, or the data do not fit it.
    """
    options.torch_device()
    check_checkpoints(models, options, lambda config, architecture: None)  # any class can be measured
    return evaluate_models(models, data, limit, progress=progress, **options.shared())


def path_job(
    anchor: str, other: str, data: str, limit: int | None, points: int, options: Options, progress: Progress
) -> tuple[LossPath, Samples]:
    """Measure the line between two models after alignment, and return it with the samples that it was measured on.

    Args:
        limit: the number of samples to measure on; None: all.
        points: the number of points on the line, both ends included.

    Raises:
        TransfuseError: a model cannot be read, aligned or measured, or memory does not suffice.
    """
    check_checkpoints((anchor, other), options, check_fusible)
    empty = [load_empty(name, pickle=options.pickle_policy()) for name in (anchor, other)]
    size_samples = SizeSamples((anchor, other), data, options, removes_units=False)
    empty = with_anchor_form(empty, (anchor, other), options, size_samples)
    check_free_memory(
        Estimate(empty, options).loaded_bytes - STARTUP_BYTES, options.torch_device(), "aligning", progress.warn
    )
    loaded = load_for_measurement((anchor, other), data, limit, options, progress)
    networks, batches, samples, borrowed = loaded.networks, loaded.batches, loaded.samples, loaded.borrowed
    (alignment,), _ = align(networks, [0.5, 0.5], loaded.context, options, borrowed=borrowed, progress=progress)
    model = networks[0].model
    references = parents_in_one_basis(samples.task, networks, aligned_weights([alignment]), borrowed)
    predictor = samples.predictor(model.config, references, [0.5, 0.5])
    parents = (evaluate(references[0], batches, predictor.predict), evaluate(references[1], batches, predictor.predict))
    steps = iter(progress.track(range(points), "measuring"))
    next(steps)
    line = measure_path(
        model,
        alignment.anchor,
        alignment.carried,
        parents,
        batches,
        points,
        lambda position: next(steps, None),
        predictor.predict,
    )
    return replace(line, measures=known_measures(predictor.measures, line.points)), samples.samples


def landscape_job(
    models: Sequence[str],
    data: str,
    limit: int | None,
    points: int,
    margin: float,
    options: Options,
    progress: Progress,
) -> tuple[Landscape, Samples]:
    """Measure the plane through three models, and return it with the samples that it was measured on.

    Args:
        limit: the number of samples to measure on; None: all.
        points: the number of grid points per side.
        margin: how far the grid reaches beyond the models, as a fraction of its longer side.

    Raises:
        TransfuseError: a model cannot be read, aligned or measured.
    """
    loaded = load_for_measurement(models, data, limit, options, progress)
    samples = loaded.samples
    if samples.task.kind not in ("classes", "tokens") or not samples.labeled:
        raise DataError(f"{data}: landscape needs a classifier and labels, or a language model and texts")
    networks, batches, borrowed = loaded.networks, loaded.batches, loaded.borrowed
    measured = measure_landscape(models, networks, batches, points, margin, options, loaded.context, progress, borrowed)
    return measured, samples.samples


def save_landscape(found: Landscape, metric: str, target: Path) -> None:
    """Write the plot of a plane, complete or not at all. Raise `OutputError` if it cannot be written."""
    from transfuse.report.contours import save_landscape_plot

    with atomic_file(target) as partial:
        save_landscape_plot(found, metric, partial)


def save_plot(paths: Mapping[str, LossPath], target: Path) -> None:
    """Write the plot of paths, complete or not at all. Raise `OutputError` if it cannot be written."""
    from transfuse.report.plots import save_path_plot

    with atomic_file(target) as partial:
        save_path_plot(paths, partial)
