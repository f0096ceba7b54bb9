"""Rows that units are selected by, and on which the layer that reads them is validated.

The error of one map on rows costs far less than the second moments of all candidates.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.base.budget import FLOAT_BYTES, cache_bytes
from transfuse.base.distributed import process_group
from transfuse.merging.fitting.gram import GramMatrix, accumulate, gram_matrix, sum_over_processes

ROWS_PER_CANDIDATE = 4  # rows that units are selected by, per candidate input, if there are so many
MAX_PRODUCTS = 1e10  # multiplications of all candidates; more rows are used as long as these suffice
VALIDATION_SHARE = 1 / 4  # rows that a selection is validated on, relative to those it is made from
BLOCK_ROWS = 4096  # rows whose products are computed together

GramPair = tuple[GramMatrix, GramMatrix]  # of the means, and of all candidates side by side


@dataclass(frozen=True)
class ReaderRows:
    """Rows of what the reader of units reads and should write.

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
        parts = [rows._tensors() for rows in batches]
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

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.means, self.options, self.targets, self.weights

    def _square(self, values: Float[Tensor, "row writes"]) -> Float[Tensor, ""]:
        return self.weights.double() @ torch.linalg.vector_norm(values, dim=1).double().square()


def row_count(candidates: int, share: float) -> float:
    """Return how many rows a process collects, if there are so many.

    Args:
        candidates: the number of inputs that units are selected from.
        share: the share of the usual number of rows, such as `VALIDATION_SHARE`.
    """
    rows = share * max(ROWS_PER_CANDIDATE * candidates, MAX_PRODUCTS / candidates**2) / process_group().count
    return min(rows, cache_bytes("block outputs") / (FLOAT_BYTES * candidates))


def reader_moments(batches: Iterable[ReaderRows]) -> GramPair:
    """Return the moments of the inputs from the means, and from all candidates, summed over all processes."""
    totals: list[GramMatrix | None] = [None, None]
    for rows in _blocks(batches):
        totals = [
            accumulate(total, gram_matrix(values, [rows.targets], rows.weights))
            for total, values in zip(totals, (rows.means, rows.options), strict=True)
        ]
    means, options = sum_over_processes([total for total in totals if total])
    return means, options


def _blocks(batches: Iterable[ReaderRows]) -> Iterator[ReaderRows]:
    """Yield the rows in blocks of at least `BLOCK_ROWS`, except the last. Small products are slow."""
    block: list[ReaderRows] = []
    for rows in batches:
        block.append(rows)
        if sum(len(part.weights) for part in block) >= BLOCK_ROWS:
            yield ReaderRows.concatenated(block)
            block = []
    if block:
        yield ReaderRows.concatenated(block)


def _apply(values: Float[Tensor, "row reads"], weight: Float[Tensor, "reads writes"]) -> Float[Tensor, "row writes"]:
    """Return values times a map, whose last row is the bias if it has one row more than the values have columns."""
    weight = weight.to(values)
    count = values.shape[1]
    product = values @ weight[:count]
    return product + weight[count] if len(weight) > count else product
