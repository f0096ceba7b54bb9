"""Moments of paired samples, and the ground costs between the units of two spaces that follow from them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

HALF_PRECISION = (torch.bfloat16, torch.float16)  # too inaccurate for products
CHUNK_ENTRIES = 2**24  # entries of the samples that are multiplied at once
RELATIVE_ROUNDING = 1e-12  # of a sum of squares, in float64


@dataclass(frozen=True, eq=False)
class Moments:
    """First and second moments of paired samples, from which Euclidean, correlation and Procrustes costs follow.

    Attributes:
        count: the number of samples.
        sum_x, sum_y: sums over the samples, in float64 like the others.
        square_x, square_y: sums of squares.
        cross: sums of products between the two sides; empty if they are not collected.
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

    @property
    def nbytes(self) -> int:
        """The bytes of the products, which take nearly all memory."""
        return self.cross.nbytes

    def energy(self) -> float:
        """Return the geometric mean of the total sums of squares of both sides."""
        return float((self.square_x.sum() * self.square_y.sum()).sqrt())

    def scaled(self, factor: float) -> "Moments":
        """Return moments whose second moments are multiplied by `factor`, to weight them against others."""
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
    total: Moments | None = None,
    products: torch.dtype | None = None,
) -> Moments:
    """Return the moments of one batch of samples, added in place to `total`, the moments of earlier batches.

    Products are taken of deviations from the batch's mean, so that a mean that is large beside the deviations costs no
    accuracy in single precision.

    Args:
        products: the precision of the products; None: the precision of the samples.
    """
    rows = max(CHUNK_ENTRIES // max(x.shape[1], y.shape[1], 1), 1)
    for x_rows, y_rows in zip(x.split(rows), y.split(rows), strict=True):
        dtype = torch.promote_types(_precision(x_rows, products), _precision(y_rows, products))  # models may differ
        total = _add(x_rows.to(dtype), y_rows.to(dtype), total)
    assert total is not None
    return total


def zero_moments(x: Float[Tensor, "sample source"], y: Float[Tensor, "sample target"]) -> Moments:
    """Return the moments of no samples, with an empty `cross`: products between the two sides are not collected."""
    sum_x, sum_y = (torch.zeros(values.shape[1], dtype=torch.float64, device=values.device) for values in (x, y))
    return Moments(0, sum_x, sum_y, sum_x.clone(), sum_y.clone(), sum_x.new_zeros(0, 0))


def _precision(samples: Tensor, products: torch.dtype | None) -> torch.dtype:
    return products or (torch.float32 if samples.dtype in HALF_PRECISION else samples.dtype)


def _add(x: Float[Tensor, "sample source"], y: Float[Tensor, "sample target"], total: Moments | None) -> Moments:
    """Add the moments of some samples to `total`, in place.

    With mean m, deviations d and their sums r (zero but for rounding), the sum of products is
    d_x^T d_y + (sum_x) m_y^T + m_x r_y^T.
    """
    count = len(x)
    mean_x, mean_y = (values.sum(0) / max(count, 1) for values in (x, y))
    deviation_x = x - mean_x
    deviation_y = y - mean_y
    mean_x, mean_y = (mean.double() for mean in (mean_x, mean_y))
    rest_x, rest_y = (deviations.sum(0).double() for deviations in (deviation_x, deviation_y))
    sum_x = count * mean_x + rest_x
    sum_y = count * mean_y + rest_y
    if total is None:
        total = replace(zero_moments(x, y), cross=(deviation_x.T @ deviation_y).double())
    elif total.cross.numel():
        total.cross.add_(deviation_x.T @ deviation_y)
    if total.cross.numel():
        total.cross.addmm_(torch.stack([sum_x, mean_x], 1), torch.stack([mean_y, rest_y]))
    total.sum_x.add_(sum_x)
    total.sum_y.add_(sum_y)
    total.square_x.add_(deviation_x.square().sum(0).double() + mean_x * (2 * rest_x + count * mean_x))
    total.square_y.add_(deviation_y.square().sum(0).double() + mean_y * (2 * rest_y + count * mean_y))
    return replace(total, count=total.count + count)


TransformFn = Callable[[Moments], Moments]


def raw(m: Moments) -> Moments:
    """Return the moments unchanged."""
    return m


def center(m: Moments) -> Moments:
    """Return the moments of the samples minus each unit's mean."""
    return Moments(
        m.count,
        torch.zeros_like(m.sum_x),
        torch.zeros_like(m.sum_y),
        _squared_deviations(m.square_x, m.sum_x, m.count),
        _squared_deviations(m.square_y, m.sum_y, m.count),
        m.cross.addr(m.sum_x, m.sum_y, alpha=-1 / m.count),
    )


def _squared_deviations(
    square: Float[Tensor, " unit"], total: Float[Tensor, " unit"], count: int
) -> Float[Tensor, " unit"]:
    """Return the sum of squared deviations from the mean; zero if it is mere rounding, as in a constant unit."""
    deviations = square - total.square() / count
    return torch.where(deviations > RELATIVE_ROUNDING * square, deviations, torch.zeros_like(deviations))


def standardize(m: Moments) -> Moments:
    """Return the moments of units that are centered and divided by their (unbiased) standard deviation.

    A constant unit becomes zero.
    """
    centered = center(m)
    scale_x, scale_y = (
        _inverse(square.div(max(m.count - 1, 1)).sqrt()) for square in (centered.square_x, centered.square_y)
    )
    return _scale(centered, scale_x, scale_y)


def normalize(m: Moments) -> Moments:
    """Return the moments of units that are divided by their Euclidean norm over the samples."""
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


CostFn = Callable[[Moments], Float[Tensor, "source target"]]


def squared(m: Moments) -> Float[Tensor, "source target"]:
    """Return |x_i - y_j|^2."""
    return (m.square_x[:, None] + m.square_y[None] - 2 * m.cross).clamp_min(0)


def euclidean(m: Moments) -> Float[Tensor, "source target"]:
    """Return |x_i - y_j|, not squared: the ground cost of TF-OT (Imfeld et al., 2023)."""
    return squared(m).sqrt()


def cosine(m: Moments) -> Float[Tensor, "source target"]:
    """Return 1 - cos(x_i, y_j), which is 1 if a unit is zero."""
    return 1 - normalize(m).cross


ScaleFn = Callable[[Float[Tensor, "source target"]], Float[Tensor, "source target"]]


def _divided(cost: Tensor, by: Tensor) -> Tensor:
    return cost / by.clamp_min(torch.finfo(cost.dtype).tiny)


def by_maximum(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Return the cost divided by its largest entry, as TF-OT does: its regularization is relative to that."""
    return _divided(cost, cost.max())


def by_mean(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Return the cost divided by its mean, so that a regularization means the same for every layer."""
    return _divided(cost, cost.mean())


def by_median(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Return the cost divided by its median."""
    return _divided(cost, cost.median())


def by_logarithm(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Return log(1 + cost)."""
    return cost.log1p()


def unscaled(cost: Float[Tensor, "source target"]) -> Float[Tensor, "source target"]:
    """Return the cost unchanged."""
    return cost


TRANSFORMS: dict[str, TransformFn] = {"standardize": standardize, "center": center, "normalize": normalize, "raw": raw}
COSTS: dict[str, CostFn] = {"euclidean": euclidean, "squared": squared, "cosine": cosine}
SCALES: dict[str, ScaleFn] = {
    "max": by_maximum,
    "mean": by_mean,
    "median": by_median,
    "log": by_logarithm,
    "none": unscaled,
}
