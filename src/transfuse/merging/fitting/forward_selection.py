"""Forward selection of the units that together explain a target best, from second moments."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.merging.fitting.gram import GramMatrix

RIDGE = 1e-3  # penalty, relative to the mean square of the inputs
POOL = 256  # units with the largest gains, among which the next ones are selected
BLOCK = 64  # units that are selected, at most, before all gains are updated

Square = Float[Tensor, "entry entry"]


def forward_selection(
    moments: GramMatrix,
    units: Int[Tensor, "unit entry"],
    count: int,
    required: Int[Tensor, " entry"],
    ridge: float = RIDGE,
    dtype: torch.dtype = torch.float32,
) -> list[int]:
    """Return `count` units, each of which reduces the remaining error most when it is added.

    This is orthogonal least squares (Chen, Billings & Luo, 1989) by groups of columns, as a left-looking pivoted
    Cholesky factorization. Of the moments of the inputs, only the columns of selected units are ever updated, so `k` of
    `n` inputs take `n k^2` multiplications instead of `n^2 k`. The next units are selected among a pool of those with
    the largest gains, on the CPU, as long as none outside had a larger gain, so a device is not waited for unit by
    unit. Single precision suffices, unless the penalty is small: it bounds the condition of the moments.

    Args:
        units: the inputs that belong to each unit.
        required: inputs that are part of every solution.
        ridge: penalty, relative to the mean square of the inputs. Units that differ by less count as equal.
        dtype: precision of the selection. A penalty far below the default needs float64.

    Raises:
        torch.linalg.LinAlgError: inputs repeat each other so closely that the precision does not tell them apart.
    """
    device = moments.inputs.device
    penalty = ridge * float(moments.inputs.diagonal().mean())
    residual = Residual(moments, units.to(device), penalty, count * units.shape[1] + len(required), dtype)
    if len(required):
        residual.explain(required.to(device))
    selected: list[int] = []
    while len(selected) < count:
        selected += residual.take(min(BLOCK, count - len(selected)))
    return selected


class Residual:
    """The part of the inputs and targets that the selected inputs do not explain.

    Attributes:
        moments: X^T X and X^T T of all inputs. They are not changed.
        units: the inputs of every unit.
        factor: columns of the Cholesky factor, one for each selected input; only the first `length` are filled.
        squares: what is left of X^T X within each unit.
        cross: what is left of X^T T.
    """

    def __init__(
        self, moments: GramMatrix, units: Int[Tensor, "unit entry"], penalty: float, most: int, dtype: torch.dtype
    ) -> None:
        self.moments = moments
        self.units = units
        self.penalty = penalty
        self.factor = torch.empty(len(moments.inputs), most, dtype=dtype, device=units.device)
        self.length = 0
        self.squares = moments.inputs[units.unsqueeze(2), units.unsqueeze(1)].to(dtype)
        self.squares.diagonal(dim1=1, dim2=2).add_(penalty)
        self.cross = moments.cross.to(dtype, copy=True)
        self._left = torch.ones(len(units), dtype=torch.bool, device=units.device)

    def take(self, count: int) -> list[int]:
        """Select up to `count` units, at least one, and return their numbers."""
        left = self._left.nonzero().flatten()
        gains = _gains(self.squares[left], self.cross[self.units[left]])
        best = gains.topk(min(POOL, len(left))).indices
        outside = gains.index_fill_(0, best, -1.0).max()
        pool = left[best]
        entries = self.units[pool].flatten()
        local = torch.arange(len(entries)).reshape(len(pool), -1)
        picks = _greedy(self._square(entries).cpu(), self.cross[entries].cpu(), local, count, float(outside))
        chosen = pool[torch.tensor(picks).to(pool.device)]
        self._left.index_fill_(0, chosen, False)
        self.explain(self.units[chosen].flatten())
        return [int(number) for number in chosen.cpu()]

    def explain(self, pivot: Int[Tensor, " entry"]) -> None:
        """Subtract what some inputs explain. These inputs must not be used again."""
        known = self.factor[:, : self.length]
        columns = self.moments.inputs[pivot].to(known.dtype).T - known @ known[pivot].T  # X^T X is symmetric
        factor, explained = _explained(self._square(pivot), columns, self.cross[pivot])
        self.factor[:, self.length : self.length + len(pivot)] = factor
        self.length += len(pivot)
        by_unit = factor[self.units]
        self.squares -= by_unit @ by_unit.transpose(1, 2)
        self.cross.addmm_(factor, explained, alpha=-1)

    def _square(self, inputs: Int[Tensor, " few"]) -> Float[Tensor, "few few"]:
        """Return what is left of X^T X for some inputs, with the penalty."""
        square = self.moments.inputs[inputs][:, inputs].to(self.factor.dtype)
        square.diagonal().add_(self.penalty)
        factor = self.factor[inputs, : self.length]
        return square.addmm_(factor, factor.T, alpha=-1)


def _gains(
    squares: Float[Tensor, "unit entry entry"], cross: Float[Tensor, "unit entry writes"]
) -> Float[Tensor, " unit"]:
    """Return by how much each unit alone would reduce the squared error."""
    if squares.shape[1] == 1:
        return cross.square().sum((1, 2)) / squares.flatten()
    explained = torch.linalg.solve(squares, cross @ cross.transpose(1, 2))
    return explained.diagonal(dim1=1, dim2=2).sum(1)


def _greedy(
    inputs: Square, cross: Float[Tensor, "entry writes"], units: Int[Tensor, "unit entry"], count: int, outside: float
) -> list[int]:
    """Return the units of a pool that are selected one after the other, as long as their gain exceeds `outside`."""
    picks: list[int] = []
    while len(picks) < count:
        gains = _gains(inputs[units.unsqueeze(2), units.unsqueeze(1)], cross[units])
        gains[picks] = -1.0
        best = int(gains.argmax())
        if picks and float(gains[best]) < outside:
            break
        picks.append(best)
        if len(picks) == len(units):
            break
        pivot = units[best]
        factor, explained = _explained(inputs[pivot][:, pivot], inputs[:, pivot], cross[pivot])
        inputs.addmm_(factor, factor.T, alpha=-1)
        cross.addmm_(factor, explained, alpha=-1)
        inputs[pivot, pivot] = 1.0  # what is left of a selected unit is rounding
        cross[pivot] = 0.0
    return picks


def _explained(
    square: Float[Tensor, "pivot pivot"], columns: Float[Tensor, "entry pivot"], cross: Float[Tensor, "pivot writes"]
) -> tuple[Float[Tensor, "entry pivot"], Float[Tensor, "pivot writes"]]:
    """Return the columns of the Cholesky factor for some pivots, and the part of the targets that these explain."""
    triangle = torch.linalg.cholesky(square)
    factor = torch.linalg.solve_triangular(triangle.T, columns, upper=True, left=False)
    return factor, torch.linalg.solve_triangular(triangle, cross, upper=False)
