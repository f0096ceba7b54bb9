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
from transfuse.checkpoint.record.provenance import provenance
from transfuse.config.options import Options
from transfuse.errors import ConfigError
from transfuse.evaluation.evaluate import evaluate
from transfuse.evaluation.metrics import Metrics, metrics_dict
from transfuse.merging.mean import mean
from transfuse.network.layout import stored_names
from transfuse.network.model import Network, declaration, with_tensors
from transfuse.network.symmetry import symmetric

# Below this height over the line through the other two models, relative to its distance, a model is on that line.
MIN_RELATIVE_HEIGHT = 1e-2
# How a model was transformed into the first model's basis.
ANCHOR = "anchor"
ALIGNED = "aligned"
ALREADY_ALIGNED = "already aligned"
NOT_ALIGNED = "not aligned"

Position = tuple[float, float]
Shares = tuple[float, float, float]  # weights of the three models at a point of the plane; they sum to one


@dataclass(frozen=True)
class Plane:
    """Hold coordinates with the first model at 0, the second on the first axis, and the third above it.

    Distances are Euclidean, between all parameters as one vector.

    Attributes:
        base: the distance of the second model from the first.
        along: the first coordinate of the third model.
        height: the second coordinate of the third model.
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
        """Return the coordinates of a grid around all models.

        Args:
            points: the number of points per side.
            margin: how far the grid reaches beyond the models, as a fraction of the longer side of their box.
        """
        ranges = [(min(values), max(values)) for values in zip(*self.corners, strict=True)]
        extra = margin * max(high - low for low, high in ranges)
        x, y = (torch.linspace(low - extra, high + extra, points, dtype=torch.float64).tolist() for low, high in ranges)
        return tuple(x), tuple(y)


@dataclass(frozen=True)
class Corner:
    """Hold one of the three models, its position in the plane and its metrics.

    Attributes:
        alignment: how the model was transformed into the first model's basis.
    """

    path: str
    alignment: str
    position: Position
    metrics: Metrics


@dataclass(frozen=True)
class Landscape:
    """Hold the measured grid: `points[row][column]` has the position (x[column], y[row])."""

    plane: Plane
    models: tuple[Corner, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    points: tuple[tuple[Metrics, ...], ...]

    def values(self, measure: str) -> list[list[float]]:
        """Return one of the metrics at every point, row by row."""
        return [[getattr(point, measure) for point in row] for row in self.points]

    def lowest(self) -> tuple[Position, Metrics]:
        """Return the position of the grid point with the lowest loss, and its metrics."""
        positioned = [
            ((x, y), point)
            for y, row in zip(self.y, self.points, strict=True)
            for x, point in zip(self.x, row, strict=True)
        ]
        return min(positioned, key=lambda item: item[1].loss)

    def as_dict(self) -> dict[str, object]:
        """Return all numbers, with loss and accuracy as rows of `y` by columns of `x`."""
        (x, y), lowest = self.lowest()
        return {
            "models": [asdict(model) | {"metrics": _as_dict(model.metrics)} for model in self.models],
            "x": self.x,
            "y": self.y,
            "loss": self.values("loss"),
            "accuracy": self.values("accuracy"),
            "samples": lowest.samples,
            "lowest": {"position": (x, y), "shares": self.plane.shares(x, y)} | _as_dict(lowest),
        }


def measure_landscape(
    names: Sequence[str],
    networks: Sequence[Network],
    batches: Sequence[Batch],
    points: int,
    margin: float,
    options: Options,
    context: AlignContext,
    progress: Progress,
    borrowed: Sequence[frozenset[str]] = (),
) -> Landscape:
    """Measure three models, and a grid on the plane through them, in the first model's basis.

    Args:
        names: the paths of the models.
        networks: the models, in the same order.
        batches: the labeled batches to measure on.
        points: the number of grid points per side.
        margin: how far the grid reaches beyond the models, as a fraction of its longer side.
        borrowed: for each model after the first, its tensors that are the first one's; empty: none.

    Raises:
        TransfuseError: the models cannot be aligned, or they span no plane.
    """
    context = replace(context, progress=progress)
    model = networks[0].model
    tensors: list[Tensors] = []
    alignments: list[str] = []
    for index in range(len(names)):
        values, alignment = _in_first_basis(names, networks, index, options, context)
        if index and borrowed:
            values = {**values, **{name: tensors[0][name] for name in borrowed[index - 1]}}
        tensors.append(values)
        alignments.append(alignment)
    area = plane(model, tensors, names)
    x, y = area.grid(points, margin)
    positions = [*area.corners, *((column, row) for row in y for column in x)]
    metrics = [
        evaluate(with_tensors(model, mean(tensors, area.shares(*position))), batches)
        for position in progress.track(positions, "measuring")
    ]
    of_grid = metrics[len(names) :]
    return Landscape(
        plane=area,
        models=tuple(map(Corner, names, alignments, area.corners, metrics)),
        x=x,
        y=y,
        points=tuple(tuple(of_grid[row * points : (row + 1) * points]) for row in range(points)),
    )


def plane(model: PreTrainedModel, models: Sequence[Tensors], names: Sequence[str]) -> Plane:
    """Return the plane through three models, given as unfused tensors in one basis.

    Args:
        model: tells which tensors are tied.
        names: the paths of the models, for error messages.

    Raises:
        ConfigError: two models are equal, or all three are on one line.
    """
    parameters = dict(model.named_parameters())
    stored = stored_names(declaration(model))
    aa, ab, bb = 0.0, 0.0, 0.0
    for name in models[0]:
        if stored[name] not in parameters:  # tied tensors count once
            continue
        origin, second, third = (tensors[name].double() for tensors in models)
        a = second - origin
        b = third - origin
        aa += _dot(a, a)
        ab += _dot(a, b)
        bb += _dot(b, b)
    for distance, one, other in ((aa, 0, 1), (bb, 0, 2), (aa - 2 * ab + bb, 1, 2)):
        if not distance:
            raise ConfigError(f"{names[other]}: equals {names[one]}; give three models that differ")
    height = sqrt(max(0.0, bb - ab * ab / aa))
    if height < MIN_RELATIVE_HEIGHT * sqrt(bb):
        raise ConfigError(
            f"{names[2]}: is on the line through {names[0]} and {names[1]}, as a mean of the two is, so the three"
            " models span no plane; give another third model, or show the line with `transfuse path`"
        )
    return Plane(sqrt(aa), ab / sqrt(aa), height)


def _in_first_basis(
    names: Sequence[str], networks: Sequence[Network], index: int, options: Options, context: AlignContext
) -> tuple[Tensors, str]:
    """Return a model's tensors in the first model's basis and canonical form, and its alignment.

    A model that was fused into that basis is not aligned again. Alignment would change its distance from the others,
    since fitted layers differ a lot from the parents' layers.
    """
    anchor = networks[0]
    network = networks[index]
    if options.align == "none":
        return network.tensors, ANCHOR if index == 0 else NOT_ALIGNED
    origin = "basis" if index == 0 else provenance(names[index], names[0])
    if origin == "gauge":
        return network.tensors, ALREADY_ALIGNED
    if origin == "basis":
        canonical = canonicalize(symmetric(network.spec), network.tensors)
        return network.materialize(canonical), ANCHOR if index == 0 else ALREADY_ALIGNED
    if origin == "missing":
        reason = "the model that it was fine-tuned from is missing or has changed"
        context.progress.warn(f"{names[index]}: is aligned to {names[0]}, because {reason}")
    return ALIGNMENT_METHODS[options.align](anchor, network, context).carried, ALIGNED


def _as_dict(metrics: Metrics) -> dict[str, float]:
    return metrics_dict(metrics, ("accuracy", "loss"))


def _dot(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum())
