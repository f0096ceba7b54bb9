"""Ground costs between the units of two spaces, from their moments alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

HALVES = (torch.bfloat16, torch.float16)  # too coarse for products
ENTRIES = 2**24  # of samples that are multiplied at once
ROUNDING = 1e-12  # of a sum of squares, in float64


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of paired samples: all that Euclidean, correlation and Procrustes costs need.

    Sums over `count` samples, in float64, so that memory does not grow with the samples.
    """

    count: int
    sum_x: Float[Tensor, " source"]
    sum_y: Float[Tensor, " target"]
    square_x: Float[Tensor, " source"]
    square_y: Float[Tensor, " target"]
    cross: Float[Tensor, "source target"]

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count,
            self.sum_x + other.sum_x,
            self.sum_y + other.sum_y,
            self.square_x + other.square_x,
            self.square_y + other.square_y,
            self.cross + other.cross,
        )

    def energy(self) -> float:
        """Geometric mean of both sides' sums of squares."""
        return float((self.square_x.sum() * self.square_y.sum()).sqrt())

    def times(self, factor: float) -> "Moments":
        """Every second moment times `factor`: how much this evidence counts beside other evidence."""
        root = factor**0.5
        return Moments(
            self.count,
            self.sum_x * root,
            self.sum_y * root,
            self.square_x * factor,
            self.square_y * factor,
            self.cross * factor,
        )


def moments(
    x: Float[Tensor, "sample source"],
    y: Float[Tensor, "sample target"],
    onto: Moments | None = None,
    products: torch.dtype | None = None,
) -> Moments:
    """Moments of one batch of samples, added to those of the batches before, in place.

    Products are taken of what deviates from the batch's mean: in single precision too, nothing is lost to a mean that
    is large beside the deviations.

    Args:
        products: their precision; None: the samples' own.
    """
    rows = max(ENTRIES // max(x.shape[1], y.shape[1], 1), 1)
    for one, two in zip(x.split(rows), y.split(rows), strict=True):
        precision = torch.promote_types(_precision(one, products), _precision(two, products))  # models may differ in it
        onto = _added(one.to(precision), two.to(precision), onto)
    assert onto is not None
    return onto


def uncrossed(x: Float[Tensor, "sample source"], y: Float[Tensor, "sample target"]) -> Moments:
    """Of no samples yet, for moments without products between the two sides: their cross stays empty."""
    one, two = (torch.zeros(values.shape[1], dtype=torch.float64, device=values.device) for values in (x, y))
    return Moments(0, one, two, one.clone(), two.clone(), one.new_zeros(0, 0))


def _precision(samples: Tensor, products: torch.dtype | None) -> torch.dtype:
    return products or (torch.float32 if samples.dtype in HALVES else samples.dtype)


def _added(x: Float[Tensor, "sample source"], y: Float[Tensor, "sample target"], onto: Moments | None) -> Moments:
    mean_x, mean_y = (values.sum(0) / max(len(values), 1) for values in (x, y))
    dx, dy = x - mean_x, y - mean_y
    count, mean_x, mean_y = len(x), mean_x.double(), mean_y.double()
    rest_x, rest_y = (values.sum(0).double() for values in (dx, dy))
    sum_x, sum_y = count * mean_x + rest_x, count * mean_y + rest_y
    square_x, square_y = (
        deviations.square().sum(0).double() + mean * (2 * rest + count * mean)
        for deviations, mean, rest in ((dx, mean_x, rest_x), (dy, mean_y, rest_y))
    )
    if onto is None:
        onto = replace(uncrossed(x, y), cross=sum_x.new_zeros(len(sum_x), len(sum_y)))
    if onto.cross.numel():
        onto.cross.add_(dx.T @ dy).addmm_(torch.stack([sum_x, mean_x], 1), torch.stack([mean_y, rest_y]))
    for total, new in ((onto.sum_x, sum_x), (onto.sum_y, sum_y), (onto.square_x, square_x), (onto.square_y, square_y)):
        total.add_(new)
    return replace(onto, count=onto.count + count)


Transform = Callable[[Moments], Moments]


def raw(m: Moments) -> Moments:
    """Samples as they are."""
    return m


def centre(m: Moments) -> Moments:
    """Each unit's mean over the samples removed."""
    zero_x, zero_y = torch.zeros_like(m.sum_x), torch.zeros_like(m.sum_y)
    return Moments(
        m.count,
        zero_x,
        zero_y,
        _spread(m.square_x, m.sum_x, m.count),
        _spread(m.square_y, m.sum_y, m.count),
        m.cross.addr(m.sum_x, m.sum_y, alpha=-1 / m.count),
    )


def _spread(square: Float[Tensor, " unit"], total: Float[Tensor, " unit"], count: int) -> Float[Tensor, " unit"]:
    """Sum of squared deviations from the mean; none where rounding is all there is, as in a constant unit."""
    spread = square - total.square() / count
    return torch.where(spread > ROUNDING * square, spread, torch.zeros_like(spread))


def standardise(m: Moments) -> Moments:
    """Each unit centred and divided by its (unbiased) standard deviation; a constant unit becomes zero."""
    c = centre(m)
    x, y = (_inverse(square.div(max(m.count - 1, 1)).sqrt()) for square in (c.square_x, c.square_y))
    return _scale(c, x, y)


def normalise(m: Moments) -> Moments:
    """Each unit divided by its Euclidean norm over the samples."""
    return _scale(m, _inverse(m.square_x.sqrt()), _inverse(m.square_y.sqrt()))


def _inverse(scale: Float[Tensor, " unit"]) -> Float[Tensor, " unit"]:
    return torch.where(scale > 1e-9, 1 / scale.clamp_min(1e-9), torch.zeros_like(scale))


def _scale(m: Moments, x: Float[Tensor, " source"], y: Float[Tensor, " target"]) -> Moments:
    return Moments(
        m.count,
        m.sum_x * x,
        m.sum_y * y,
        m.square_x * x.square(),
        m.square_y * y.square(),
        (m.cross * x.unsqueeze(1)).mul_(y),
    )


Cost = Callable[[Moments], Float[Tensor, "source target"]]


def squared(m: Moments) -> Float[Tensor, "source target"]:
    """|x_i - y_j|^2."""
    return (m.square_x[:, None] + m.square_y[None] - 2 * m.cross).clamp_min(0)


def euclidean(m: Moments) -> Float[Tensor, "source target"]:
    """|x_i - y_j|, not squared: the paper's ground cost."""
    return squared(m).sqrt()


def cosine(m: Moments) -> Float[Tensor, "source target"]:
    """1 - cos(x_i, y_j); 1 where a unit is zero."""
    return 1 - normalise(m).cross


Scale = Callable[[Float[Tensor, "source target"]], Float[Tensor, "source target"]]


def _divided(cost: Tensor, by: Tensor) -> Tensor:
    return cost / by.clamp_min(torch.finfo(cost.dtype).tiny)


def by_maximum(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Divided by its largest entry: the paper's scale, and what its regularisation is relative to."""
    return _divided(cost, cost.max())


def by_mean(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Divided by its mean: a regularisation then means the same for every layer."""
    return _divided(cost, cost.mean())


def by_median(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Divided by its median."""
    return _divided(cost, cost.median())


def by_logarithm(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """log(1 + cost)."""
    return cost.log1p()


def unscaled(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """As it is."""
    return cost


TRANSFORMS: dict[str, Transform] = {"standardise": standardise, "centre": centre, "normalise": normalise, "raw": raw}
COSTS: dict[str, Cost] = {"euclidean": euclidean, "squared": squared, "cosine": cosine}
SCALES: dict[str, Scale] = {
    "max": by_maximum,
    "mean": by_mean,
    "median": by_median,
    "log": by_logarithm,
    "none": unscaled,
}
