"""Approximate the difference of two matrices by the product of two small ones, as LoRA does."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

RIDGE = 1e-3  # added to the second moments of inputs, relative to their mean square: unseen directions count a little
LARGE = 1024  # matrices with more rows and columns are decomposed by a randomized method
OVERSAMPLING = 32  # further directions that this method looks at
ITERATIONS = 4  # of its power method


@dataclass(frozen=True, eq=False)
class LowRank:
    """Hold a difference of rank r as a product, and what it holds.

    Attributes:
        up: the factor that PEFT calls B.
        down: the factor that PEFT calls A. The difference is about `up @ down`.
        square: the squared norm of the whole difference.
        residual: the squared norm of what the product lacks.
        output_square: the mean squared norm of the difference of the outputs; None without moments.
        output_residual: that of what the product lacks.
    """

    up: Float[Tensor, "writes rank"]
    down: Float[Tensor, "rank reads"]
    square: float
    residual: float
    output_square: float | None = None
    output_residual: float | None = None

    @property
    def rank(self) -> int:
        """The rank of the product: the chosen one, or less if the difference has less."""
        return len(self.down)


def low_rank_difference(
    base: Float[Tensor, "writes reads"],
    changed: Float[Tensor, "writes reads"],
    rank: int,
    moments: Float[Tensor, "reads reads"] | None = None,
) -> LowRank:
    """Return the best approximation of `changed - base` by a matrix of at most this rank.

    Without moments, the squared error of the entries is the smallest possible (Eckart and Young, 1936). With moments,
    it is the expected squared error of the outputs: the singular value decomposition is that of D L, where L L^T are
    the moments plus a small multiple of the identity, so that L can be inverted.

    Args:
        base: the matrix before the change, in any precision.
        changed: the matrix after it, of the same shape.
        rank: at least 1.
        moments: E[x x^T] of the inputs x; None: all directions count the same.

    Raises:
        ValueError: the rank is below 1, or the shapes differ.
    """
    if rank < 1 or base.shape != changed.shape:
        raise ValueError(f"rank {rank}, shapes {tuple(base.shape)} and {tuple(changed.shape)}")
    difference = changed.double() - base.double()
    root = None if moments is None else _root(moments.to(difference))
    left, singular, right = _svd(difference if root is None else difference @ root, rank)
    scale = singular[:rank].sqrt()
    up, down = left[:, :rank] * scale, scale.unsqueeze(1) * right[:rank]
    if root is not None:
        down = torch.linalg.solve_triangular(root, down, upper=False, left=False)
    sizes = up.norm(dim=0), down.norm(dim=1)
    own = sizes[0] * sizes[1] > _rounding(base, changed)
    balance = (sizes[1][own] / sizes[0][own]).sqrt()
    up, down = up[:, own] * balance, down[own] / balance.unsqueeze(1)
    residual = difference - up @ down
    squares = [float(values.square().sum()) for values in (difference, residual)]
    if moments is not None:
        squares += [float((values @ moments.to(values) * values).sum()) for values in (difference, residual)]
    return LowRank(up, down, *squares)


def _rounding(base: Tensor, changed: Tensor) -> float:
    """Return about the spectral norm of the rounding errors of two matrices, below which a difference is none."""
    largest = max(float(values.double().square().mean().sqrt()) for values in (base, changed))
    precision = torch.finfo(torch.promote_types(base.dtype, changed.dtype)).eps
    return precision * largest * sum(size**0.5 for size in base.shape)


def _root(moments: Float[Tensor, "reads reads"]) -> Float[Tensor, "reads reads"]:
    """Return the lower triangular L of L L^T = moments + ridge * identity, which is invertible for any moments."""
    ridge = RIDGE * float(moments.diagonal().mean())
    if not ridge > 0:  # the layer read nothing but zeros
        return torch.eye(len(moments)).to(moments)
    shifted = moments.clone()
    shifted.diagonal().add_(ridge)
    return torch.linalg.cholesky(shifted)


def _svd(matrix: Float[Tensor, "writes reads"], rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest singular values, at least `rank` of them if there are so many, with both sides' vectors."""
    sought = rank + OVERSAMPLING
    if min(matrix.shape) <= LARGE or 4 * sought > min(matrix.shape):
        return torch.linalg.svd(matrix, full_matrices=False)
    with torch.random.fork_rng([matrix.device] if matrix.device.type == "cuda" else []):
        torch.manual_seed(0)
        left, singular, right = torch.svd_lowrank(matrix, q=sought, niter=ITERATIONS)
    return left, singular, right.T
