"""Least squares from streamed second moments: memory does not depend on the number of samples.

Products are those of the samples' own precision; what is summed over batches, and all that is solved, is float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.base.distributed import process_group

PANEL_COLUMNS = 512  # columns of X^T X, of which the lower half is mirrored
ROUNDS = 20  # of raising every row's chance, until as many are drawn as are wanted


@dataclass(frozen=True, eq=False)
class GramMatrix:
    """X^T X, X^T T and T^2 of a linear map's inputs, a one appended, and its targets, in float64; of several maps from
    the same inputs, the targets side by side.
    """

    inputs: Float[Tensor, "reads reads"]
    cross: Float[Tensor, "reads writes"]
    squares: Float[Tensor, " maps"]

    @property
    def square(self) -> float:
        """T^2, of all maps together."""
        return float(self.squares.sum())

    def __add__(self, other: "GramMatrix") -> "GramMatrix":
        return GramMatrix(self.inputs + other.inputs, self.cross + other.cross, self.squares + other.squares)

    def without_ones(self) -> "GramMatrix":
        """Of a map without a bias."""
        return GramMatrix(self.inputs[:-1, :-1], self.cross[:-1], self.squares)

    def solve(self, ridge: float, before: Float[Tensor, "reads writes"]) -> Float[Tensor, "reads writes"]:
        """The map of least squared error, pulled towards `before`."""
        pull = ridge * self.inputs.diagonal().mean()
        return torch.linalg.solve(
            self.inputs + pull * torch.eye(len(self.inputs)).to(self.inputs), self.cross + pull * before
        )

    def error(self, found: Float[Tensor, "reads writes"]) -> float:
        """The squared error of a map."""
        return float((found * (self.inputs @ found)).sum() - 2 * (found * self.cross).sum()) + self.square

    def only(self, kept: Int[Tensor, " kept"]) -> "GramMatrix":
        """Of these inputs alone."""
        return GramMatrix(self.inputs[kept][:, kept], self.cross[kept], self.squares)

    def apart(self) -> list["GramMatrix"]:
        """Of several maps, each one's own."""
        pairs = zip(self.cross.chunk(len(self.squares), 1), self.squares.unsqueeze(1), strict=True)
        return [GramMatrix(self.inputs, cross, squares) for cross, squares in pairs]


def accumulate(found: GramMatrix | None, new: GramMatrix) -> GramMatrix:
    """What was summed so far, in place, and what is new."""
    if found is None:
        return GramMatrix(new.inputs.double(), new.cross.double(), new.squares)
    return GramMatrix(found.inputs.add_(new.inputs), found.cross.add_(new.cross), found.squares.add_(new.squares))


def sum_over_processes(found: Sequence[GramMatrix]) -> list[GramMatrix]:
    """The sums over all processes of a run. Empty: this one had no samples."""
    group = process_group()
    if group.count == 1:
        return list(found)
    total = group.all_reduce([values for each in found for values in (each.inputs, each.cross, each.squares)] or None)
    return [GramMatrix(*third) for third in zip(total[::3], total[1::3], total[2::3], strict=True)]


def gram_matrix(
    inputs: Float[Tensor, "row reads"], targets: Sequence[Float[Tensor, "row writes"]], weights: Float[Tensor, " row"]
) -> GramMatrix:
    """Of some rows, each counted so many times, and of several maps' targets, side by side; products as precise as the
    rows.
    """
    x = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
    weights = weights.to(x)
    weighted = x * weights.unsqueeze(1)
    squares = [weights.double() @ torch.linalg.vector_norm(each, dim=1).double().square() for each in targets]
    cross = torch.cat([weighted.T @ each for each in targets], 1)
    return GramMatrix(_symmetric(weighted, x), cross, torch.stack(squares))


def _symmetric(weighted: Float[Tensor, "row reads"], x: Float[Tensor, "row reads"]) -> Float[Tensor, "reads reads"]:
    """X^T W X, of wide X from the upper panels alone: half the products."""
    count = x.shape[1]
    found = x.new_empty(count, count)
    for start in range(0, count, PANEL_COLUMNS):
        panel = slice(start, start + PANEL_COLUMNS)
        found[panel, start:] = weighted[:, panel].T @ x[:, start:]
        found[start + PANEL_COLUMNS :, panel] = found[panel, start + PANEL_COLUMNS :].T
    return found


def importance_sample(
    weights: Float[Tensor, " row"], most: float, seed: int
) -> tuple[Int[Tensor, " kept"], Float[Tensor, " kept"]]:
    """About `most` of many rows, drawn by how much each counts, and how much each that was drawn counts then: sums of
    them are, in expectation, those of all. What counts much is kept in any case.
    """
    if len(weights) <= most:
        return torch.arange(len(weights)), weights
    chance, level = weights, most / float(weights.sum())
    for _ in range(ROUNDS):
        chance = (weights * level).clamp(max=1)
        level *= most / float(chance.sum())
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand(len(weights), generator=generator).to(chance) < chance).nonzero().flatten()
    return drawn, weights[drawn] / chance[drawn]
