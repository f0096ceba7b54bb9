"""Measure the loss on the plane through three models in one basis.

The method is that of Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs" (2018):
Gram-Schmidt gives an orthonormal basis of the plane, on which a regular grid of points is measured.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import sqrt

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.base.batch import Batch
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress
from transfuse.checkpoint.provenance import provenance
from transfuse.config.options import Options
from transfuse.errors import ConfigError
from transfuse.evaluation.evaluate import evaluate
from transfuse.evaluation.metrics import Metrics
from transfuse.merging.mean import mean
from transfuse.network.layout import stored_names
from transfuse.network.model import Network, declaration, with_tensors
from transfuse.network.symmetry import symmetric

FLAT = 1e-2  # height of the third model above the line through the others, over its distance, that rounding may cause
OWN, AS_IT_IS, ALIGNED, WITHIN = (
    "its own",
    "as it is",
    "aligned",
    "was in it",
)  # how a model came into the first's basis

Position = tuple[float, float]
Shares = tuple[float, float, float]  # weights of the three models at a point of the plane; they sum to one


@dataclass(frozen=True)
class Plane:
    """Hold coordinates with the first model at 0, the second on the first axis, and the third above it.

    Distances are Euclidean, between all parameters as one vector.

    Attributes:
        base: distance of the second model.
        along, height: position of the third model.
    """

    base: float
    along: float
    height: float

    @property
    def corners(self) -> tuple[Position, Position, Position]:
        """Return the positions of the three models."""
        return (0.0, 0.0), (self.base, 0.0), (self.along, self.height)

    def shares(self, x: float, y: float) -> Shares:
        """Return the weights of the models at the point (x, y); some are negative outside the triangle."""
        third = y / self.height
        second = (x - third * self.along) / self.base
        return 1 - second - third, second, third

    def grid(self, points: int, margin: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the coordinates of `points` a side, around all models and `margin` of the longer side beyond them."""
        sides = [(min(each), max(each)) for each in zip(*self.corners, strict=True)]
        beyond = margin * max(high - low for low, high in sides)
        x, y = (
            torch.linspace(low - beyond, high + beyond, points, dtype=torch.float64).tolist() for low, high in sides
        )
        return tuple(x), tuple(y)


@dataclass(frozen=True)
class Corner:
    """Hold one of the three models. `how` says how it came into the first model's basis."""

    path: str
    how: str
    position: Position
    metrics: Metrics


@dataclass(frozen=True)
class Landscape:
    """Hold the measured grid: `points[row][column]` lies at (x[column], y[row])."""

    plane: Plane
    models: tuple[Corner, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    points: tuple[tuple[Metrics, ...], ...]

    def values(self, measure: str) -> list[list[float]]:
        """Return one of the metrics at every point, row by row."""
        return [[getattr(point, measure) for point in row] for row in self.points]

    def lowest(self) -> tuple[Position, Metrics]:
        """Return the position of the grid point with the least loss, and its metrics."""
        points = [
            ((x, y), point)
            for y, row in zip(self.y, self.points, strict=True)
            for x, point in zip(self.x, row, strict=True)
        ]
        return min(points, key=lambda point: point[1].loss)

    def as_dict(self) -> dict[str, object]:
        """Return all numbers, with loss and accuracy as rows of `y` by columns of `x`."""
        (x, y), least = self.lowest()
        return {
            "models": [asdict(model) for model in self.models],
            "x": self.x,
            "y": self.y,
            "loss": self.values("loss"),
            "accuracy": self.values("accuracy"),
            "samples": least.samples,
            "lowest": {"position": (x, y), "shares": self.plane.shares(x, y)} | asdict(least),
        }


def survey(
    names: Sequence[str],
    networks: Sequence[Network],
    batches: Sequence[Batch],
    points: int,
    margin: float,
    options: Options,
    context: AlignContext,
    progress: Progress,
) -> Landscape:
    """Measure three models and a grid of `points` a side on the plane through them, in the first model's basis.

    Raises:
        TransfuseError: the models cannot be aligned, or they span no plane.
    """
    context = replace(context, progress=progress)
    placed = [_in_first_basis(names, networks, index, options, context) for index in range(len(names))]
    tensors, model = [each for each, _ in placed], networks[0].model
    area = plane(model, tensors, names)
    x, y = area.grid(points, margin)
    positions = [*area.corners, *((across, up) for up in y for across in x)]
    metrics = [
        evaluate(with_tensors(model, mean(tensors, area.shares(*position))), batches)
        for position in progress.track(positions, "measuring")
    ]
    corners, grid = metrics[: len(names)], metrics[len(names) :]
    return Landscape(
        plane=area,
        models=tuple(
            Corner(name, how, position, measured)
            for name, (_, how), position, measured in zip(names, placed, area.corners, corners, strict=True)
        ),
        x=x,
        y=y,
        points=tuple(tuple(grid[row * points : (row + 1) * points]) for row in range(points)),
    )


def plane(model: PreTrainedModel, models: Sequence[Tensors], names: Sequence[str]) -> Plane:
    """Return the plane through three models, given as unfused tensors in one basis.

    Args:
        model: says which tensors are tied.
        names: of the models, for error messages.

    Raises:
        ConfigError: two models are the same, or the three lie on one line.
    """
    parameters, stored = dict(model.named_parameters()), stored_names(declaration(model))
    own = [name for name in models[0] if stored[name] in parameters]  # tied tensors count once
    aa, ab, bb = 0.0, 0.0, 0.0
    for name in own:
        start, a, b = (each[name].double() for each in models)
        aa, ab, bb = aa + _dot(a - start, a - start), ab + _dot(a - start, b - start), bb + _dot(b - start, b - start)
    if not aa or not bb:
        raise ConfigError(f"{names[1] if not aa else names[2]}: the same model as {names[0]}; give three that differ")
    height = sqrt(max(0.0, bb - ab * ab / aa))
    if height < FLAT * sqrt(bb):
        raise ConfigError(
            f"{names[2]}: lies on the line through {names[0]} and {names[1]}, as their mean does, so there is no"
            " plane; `transfuse path` shows that line, or give another third model"
        )
    return Plane(sqrt(aa), ab / sqrt(aa), height)


def _in_first_basis(
    names: Sequence[str], networks: Sequence[Network], index: int, options: Options, context: AlignContext
) -> tuple[Tensors, str]:
    """Return a model's tensors in the first model's basis and canonical form, and how they came there.

    A model that was fused into that basis is not aligned again: the plot is about its distance from the others, and
    fitted layers resemble the parents' layers little.
    """
    anchor, own = networks[0], networks[index]
    if options.align == "none":
        return own.tensors, AS_IT_IS
    origin = "basis" if index == 0 else provenance(names[index], names[0])
    if origin == "gauge":
        return own.tensors, WITHIN
    if origin == "basis":
        return own.materialize(canonicalize(symmetric(own.spec), own.tensors)), OWN if index == 0 else WITHIN
    return ALIGNMENT_METHODS[options.align](anchor, own, context).carried, ALIGNED


def _dot(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum())
