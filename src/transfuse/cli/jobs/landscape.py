"""The work of `transfuse landscape`: three checkpoints into one basis, and the grid between them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import METHODS
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress
from transfuse.checkpoint.output import atomic_file
from transfuse.checkpoint.provenance import provenance
from transfuse.cli.jobs.inspection import ready
from transfuse.config.options import Options
from transfuse.evaluation.landscape import Corner, Landscape, plane, survey
from transfuse.network.model import Network
from transfuse.network.symmetry import symmetric

OWN, AS_IT_IS, ALIGNED, WITHIN = "its own", "as it is", "aligned", "was in it"


def landscape_job(
    models: Sequence[str],
    data: str,
    limit: int | None,
    points: int,
    margin: float,
    options: Options,
    progress: Progress,
) -> Landscape:
    """Loss and accuracy on the plane through three checkpoints.

    Raises:
        TransfuseError: a checkpoint or the data is not what it should be, or the three span no plane.
    """
    networks, batches, choices = ready(models, data, limit, options)
    choices = replace(choices, progress=progress)
    placed = [_placed(models, index, networks, options, choices) for index in range(len(models))]
    tensors, model = [found for found, _ in placed], networks[0].model
    area = plane(model, tensors, models)
    x, y = area.grid(points, margin)
    places = [*area.corners, *((across, up) for up in y for across in x)]
    steps = iter(progress.track(range(len(places)), "measuring"))
    next(steps)
    found = survey(model, tensors, (area.shares(*place) for place in places), batches, lambda: next(steps, None))
    corners, grid = found[: len(models)], found[len(models) :]
    return Landscape(
        area,
        tuple(
            Corner(name, how, position, metrics)
            for name, (_, how), position, metrics in zip(models, placed, area.corners, corners, strict=True)
        ),
        x,
        y,
        tuple(tuple(grid[row * points : (row + 1) * points]) for row in range(points)),
    )


def _placed(
    models: Sequence[str], index: int, networks: Sequence[Network], options: Options, choices: AlignContext
) -> tuple[Tensors, str]:
    """A model in the first one's basis, in canonical gauge, and how it came there.

    What was fused into that basis stays where it is: its distance from the others is what the picture is about, and
    layers that were fitted look little like those they stand for.
    """
    anchor, own = networks[0], networks[index]
    if options.align == "none":
        return own.tensors, AS_IT_IS
    kept = "basis" if index == 0 else provenance(models[index], models[0])
    if kept == "gauge":
        return own.tensors, WITHIN
    if kept == "basis":
        return own.hold(canonicalize(symmetric(own.spec), own.tensors)), OWN if index == 0 else WITHIN
    return METHODS[options.align](anchor, own, choices).carried, ALIGNED


def save_landscape(found: Landscape, measure: str, target: Path) -> None:
    """Write the picture, all of it or nothing. Raises `OutputError`."""
    from transfuse.report.contours import save_landscape_plot

    with atomic_file(target) as partial:
        save_landscape_plot(found, measure, partial)
