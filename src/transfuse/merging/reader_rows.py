"""Rows on which the layer that reads selected units is validated.

The error of one map on rows costs far less than the second moments of all candidates.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class ReaderRows:
    """Rows that the reader of units is validated on.

    Attributes:
        means: its inputs from the means.
        options: its inputs from all candidates, side by side.
        targets: what it should write.
        weights: the weight of every row.
    """

    means: Float[Tensor, "row reads"]
    options: Float[Tensor, "row candidates"]
    targets: Float[Tensor, "row writes"]
    weights: Float[Tensor, " row"]

    @classmethod
    def concatenated(cls, batches: Iterable["ReaderRows"]) -> "ReaderRows":
        """Return the rows of all batches."""
        parts = [(rows.means, rows.options, rows.targets, rows.weights) for rows in batches]
        return cls(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def squared_errors(
        self,
        mean_weight: Float[Tensor, "reads writes"],
        mean_columns: Int[Tensor, " reads"],
        weight: Float[Tensor, "reads writes"],
        columns: Int[Tensor, " reads"],
    ) -> Float[Tensor, "3"]:
        """Return the squared errors of two maps, from the means and from some candidates, and that of zero.

        Args:
            mean_columns: the inputs that the first map reads. A last row of a map is its bias.
            columns: the candidates that the second map reads.
        """
        return torch.stack(
            [
                self._square(_apply(self.means[:, mean_columns.to(self.means.device)], mean_weight) - self.targets),
                self._square(_apply(self.options[:, columns.to(self.options.device)], weight) - self.targets),
                self._square(self.targets),
            ]
        )

    def _square(self, values: Float[Tensor, "row writes"]) -> Float[Tensor, ""]:
        return self.weights.double() @ torch.linalg.vector_norm(values, dim=1).double().square()


def _apply(values: Float[Tensor, "row reads"], weight: Float[Tensor, "reads writes"]) -> Float[Tensor, "row writes"]:
    """Return values times a map, whose last row is the bias if it has one row more than the values have columns."""
    weight = weight.to(values)
    count = values.shape[1]
    product = values @ weight[:count]
    return product + weight[count] if len(weight) > count else product
