"""The loss on the plane through three models in one basis.

As in Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs" (2018), where the three are the
ends and the bend of a curve: an orthonormal basis of the plane by Gram and Schmidt, and a grid of points on it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.lazy import Tensors
from transfuse.errors import ConfigError
from transfuse.evaluation.evaluate import evaluate
from transfuse.evaluation.metrics import Metrics
from transfuse.merging.mean import mean
from transfuse.network.layout import stored_names
from transfuse.network.model import declaration, with_tensors

FLAT = 1e-2  # height of the third model over the line through the others, over its distance, that rounding may give

Position = tuple[float, float]
Shares = tuple[float, float, float]  # of the three models, summing to one: where in the plane a point lies


@dataclass(frozen=True)
class Plane:
    """Coordinates with the first model at 0, the second on the first axis, the third above it.

    Distances are Euclidean, between all parameters as one vector.

    Attributes:
        base: distance of the second model.
        along, height: position of the third.
    """

    base: float
    along: float
    height: float

    @property
    def corners(self) -> tuple[Position, Position, Position]:
        """Where the three models lie."""
        return (0.0, 0.0), (self.base, 0.0), (self.along, self.height)

    def shares(self, x: float, y: float) -> Shares:
        """How much of each model is in the point at (x, y); outside the triangle some are negative."""
        third = y / self.height
        second = (x - third * self.along) / self.base
        return 1 - second - third, second, third

    def grid(self, points: int, margin: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The coordinates of `points` a side, around all models and `margin` of the longer side beyond them."""
        sides = [(min(each), max(each)) for each in zip(*self.corners, strict=True)]
        beyond = margin * max(high - low for low, high in sides)
        x, y = (
            torch.linspace(low - beyond, high + beyond, points, dtype=torch.float64).tolist() for low, high in sides
        )
        return tuple(x), tuple(y)


@dataclass(frozen=True)
class Corner:
    """A model of the plane. `how`: what brought it into the first one's basis."""

    path: str
    how: str
    position: Position
    metrics: Metrics


@dataclass(frozen=True)
class Landscape:
    """What was measured: `points[row][column]` at (x[column], y[row])."""

    plane: Plane
    models: tuple[Corner, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    points: tuple[tuple[Metrics, ...], ...]

    def values(self, measure: str) -> list[list[float]]:
        """One of the metrics at every point, row by row."""
        return [[getattr(point, measure) for point in row] for row in self.points]

    def lowest(self) -> tuple[Position, Metrics]:
        """The point of the grid of least loss, and its metrics."""
        found = [
            ((x, y), point)
            for y, row in zip(self.y, self.points, strict=True)
            for x, point in zip(self.x, row, strict=True)
        ]
        return min(found, key=lambda each: each[1].loss)

    def as_dict(self) -> dict[str, object]:
        """Numbers alone; loss and accuracy as rows of `y` by columns of `x`."""
        (x, y), least = self.lowest()
        return {
            "models": [asdict(each) for each in self.models],
            "x": self.x,
            "y": self.y,
            "loss": self.values("loss"),
            "accuracy": self.values("accuracy"),
            "samples": least.samples,
            "lowest": {"position": (x, y), "shares": self.plane.shares(x, y)} | asdict(least),
        }


def plane(model: PreTrainedModel, models: Sequence[Tensors], names: Sequence[str]) -> Plane:
    """The plane through three models in one basis, given opened; `model` says which tensors are tied.

    Raises:
        ConfigError: they span none; `names` are what to call them.
    """
    parameters, stored = dict(model.named_parameters()), stored_names(declaration(model))
    own = [name for name in models[0] if stored[name] in parameters]  # tied ones once
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


def survey(
    model: PreTrainedModel,
    models: Sequence[Tensors],
    shares: Iterable[Shares],
    batches: Sequence[Batch],
    each: Callable[[], object] = lambda: None,
) -> list[Metrics]:
    """Metrics of the weighted sums of three models in one basis; `model` gives the architecture.

    Args:
        each: called after every point.
    """
    found = []
    for share in shares:
        found.append(evaluate(with_tensors(model, mean(models, share)), batches))
        each()
    return found


def _dot(left: Tensor, right: Tensor) -> float:
    return float((left * right).sum())
