"""Least squares from second moments that are accumulated batch by batch, in memory independent of the sample count.

Products of a batch have the precision of its samples. Sums over batches and solutions are float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.base.distributed import process_group

PANEL_COLUMNS = 256  # columns of X^T X that are computed together
CALIBRATION_ROUNDS = 20  # iterations that raise the sampling probabilities until the expected count is right


def bias_index(has_bias: bool, index: int) -> Int[Tensor, " entry"]:
    """Return the index of the column of ones, or no index if a layer has no bias."""
    return torch.tensor([index] if has_bias else [], dtype=torch.long)


@dataclass(frozen=True, eq=False)
class GramMatrix:
    """Second moments of inputs X and targets T of linear maps: of a batch in its precision, of all in float64.

    X has a last column of ones for the bias. Several maps that read the same inputs have their targets side by side.

    Attributes:
        inputs: X^T X.
        cross: X^T T.
        target_squares: the sum of squared targets, map by map.
    """

    inputs: Float[Tensor, "reads reads"]
    cross: Float[Tensor, "reads writes"]
    target_squares: Float[Tensor, " maps"]

    @property
    def target_square(self) -> float:
        """The sum of squared targets of all maps."""
        return float(self.target_squares.sum())

    def __add__(self, other: "GramMatrix") -> "GramMatrix":
        return GramMatrix(
            self.inputs + other.inputs, self.cross + other.cross, self.target_squares + other.target_squares
        )

    def without_bias(self) -> "GramMatrix":
        """Return the moments without the column of ones."""
        return GramMatrix(self.inputs[:-1, :-1], self.cross[:-1], self.target_squares)

    def project_targets(self, directions: Float[Tensor, "writes few"]) -> "GramMatrix":
        """Return the moments of one map to projected targets. Their squares are unknown, so errors are relative."""
        return GramMatrix(self.inputs, self.cross @ directions, self.target_squares.new_zeros(1))

    def select_inputs(self, indices: Int[Tensor, " selected"]) -> "GramMatrix":
        """Return the moments of some of the inputs."""
        return GramMatrix(self.inputs[indices][:, indices], self.cross[indices], self.target_squares)

    def split_maps(self) -> list["GramMatrix"]:
        """Return the moments of every map separately."""
        maps = zip(self.cross.chunk(len(self.target_squares), 1), self.target_squares.unsqueeze(1), strict=True)
        return [GramMatrix(self.inputs, cross, squares) for cross, squares in maps]

    def solve(self, ridge: float, prior: Float[Tensor, "reads writes"]) -> Float[Tensor, "reads writes"]:
        """Return the map W that minimizes |X W - T|^2 + penalty * |W - prior|^2; the prior if all inputs are zero.

        Args:
            ridge: the penalty, relative to the mean square of the inputs.
        """
        if not self.inputs.diagonal().any():
            return prior
        penalty = ridge * self.inputs.diagonal().mean()
        square = self.inputs.clone()
        square.diagonal().add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(square)
        right = self.cross + penalty * prior
        return torch.linalg.solve(square, right) if failed else torch.cholesky_solve(right, factor)

    def error(self, weight: Float[Tensor, "reads writes"]) -> float:
        """Return the squared error |X W - T|^2 of a map W."""
        product = float((weight * (self.inputs @ weight)).sum() - 2 * (weight * self.cross).sum())
        return product + self.target_square


def gram_matrix(
    inputs: Float[Tensor, "row reads"],
    targets: Sequence[Float[Tensor, "row writes"]],
    weights: Float[Tensor, " row"],
    first_is_mean: Sequence[float] = (),
) -> GramMatrix:
    """Return the weighted moments of some rows, in the precision of the inputs.

    Args:
        targets: the targets of one or several maps.
        weights: the weight of every row.
        first_is_mean: the weights with which the first target is the sum of the others, so that its moments follow from
            theirs. Empty: it is none.
    """
    weights = weights.to(inputs)
    weighted = inputs * weights.unsqueeze(1)
    squares = [weights.double() @ torch.linalg.vector_norm(target, dim=1).double().square() for target in targets]
    multiplied = targets[1:] if first_is_mean else targets
    crosses = [torch.cat([weighted.T @ target, (weights @ target).unsqueeze(0)]) for target in multiplied]
    if first_is_mean:
        parts = [weight * cross for weight, cross in zip(first_is_mean, crosses, strict=True)]
        crosses.insert(0, torch.stack(parts).sum(0))
    return GramMatrix(_symmetric_product(weighted, inputs, weights), torch.cat(crosses, 1), torch.stack(squares))


def accumulate(total: GramMatrix | None, new: GramMatrix) -> GramMatrix:
    """Return the sum in float64, computed in place in `total`."""
    if total is None:
        return GramMatrix(new.inputs.double(), new.cross.double(), new.target_squares)
    return GramMatrix(
        total.inputs.add_(new.inputs), total.cross.add_(new.cross), total.target_squares.add_(new.target_squares)
    )


def sum_over_processes(totals: Sequence[GramMatrix]) -> list[GramMatrix]:
    """Return the sums over all processes. `totals` is empty if this process has no samples."""
    group = process_group()
    if group.count == 1:
        return list(totals)
    tensors = [values for total in totals for values in (total.inputs, total.cross, total.target_squares)]
    sums = group.all_reduce(tensors or None)
    return [GramMatrix(*triple) for triple in zip(sums[::3], sums[1::3], sums[2::3], strict=True)]


def importance_sample(
    weights: Float[Tensor, " row"], size: float, seed: int
) -> tuple[Int[Tensor, " drawn"], Float[Tensor, " drawn"]]:
    """Draw about `size` rows with probabilities proportional to their weights.

    Rows with large weights are always drawn.

    Returns:
        The indices of the drawn rows and their new weights. Weighted sums over them equal, in expectation, those over
        all rows.
    """
    if len(weights) <= size:
        return torch.arange(len(weights)), weights
    probability = weights
    scale = size / float(weights.sum())
    for _ in range(CALIBRATION_ROUNDS):
        probability = (weights * scale).clamp(max=1)
        scale *= size / float(probability.sum())
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(weights), generator=generator).to(probability)
    drawn = (uniform < probability).nonzero().flatten()
    return drawn, weights[drawn] / probability[drawn]


def _symmetric_product(
    weighted: Float[Tensor, "row reads"], x: Float[Tensor, "row reads"], weights: Float[Tensor, " row"]
) -> Float[Tensor, "reads reads"]:
    """Return X^T W X, where X gets a last column of ones.

    Only the panels on and above the diagonal are computed. The others mirror them.
    """
    count = x.shape[1]
    product = x.new_empty(count + 1, count + 1)
    for start in range(0, count, PANEL_COLUMNS):
        panel = slice(start, min(start + PANEL_COLUMNS, count))
        product[panel, start:count] = weighted[:, panel].T @ x[:, start:]
        product[panel.stop : count, panel] = product[panel, panel.stop : count].T
    product[count, :count] = product[:count, count] = weighted.sum(0)
    product[count, count] = weights.sum()
    return product
