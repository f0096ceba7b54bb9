"""Activations of the large model on some samples, as weighted rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.hooks import record_activations
from transfuse.activations.token_importance import PositionWeights, weights_at
from transfuse.base.batch import Batch, first_batches, row_positions
from transfuse.base.budget import token_count
from transfuse.merging.fitting.least_squares import ROWS_PER_INPUT
from transfuse.shrinking.projection import Projection


@dataclass(frozen=True, eq=False)
class Observation:
    """The samples that a choice is made from.

    Attributes:
        projection: tells which modules of the large model are observed.
        batches: the samples.
        importance: weight of every token position, by the name of the linear map in the small model.
    """

    projection: Projection
    batches: Sequence[Batch]
    importance: Mapping[str, PositionWeights]

    def rows(
        self, points: Sequence[HookPoint], weighed_by: Sequence[Sequence[str]]
    ) -> Iterator[list[tuple[Float[Tensor, "row unit"], Float[Tensor, " row"]]]]:
        """Yield, batch by batch, the rows at points of the small model's names, and the weight of each row.

        Activations are those of the large model, in its own units.

        Args:
            weighed_by: for each point, the linear maps whose importance is averaged.
        """
        model = self.projection.large
        large = [HookPoint(self.projection.large_name(point.name), point.side, point.axis) for point in points]
        for batch in self.batches:
            activations = record_activations(model, large, batch, {})
            yield [
                (rows.reshape(-1, rows.shape[-1]), self._weights(names, rows, batch, point.name))
                for rows, names, point in zip((activations[point] for point in large), weighed_by, large, strict=True)
            ]

    def _weights(self, names: Sequence[str], values: Tensor, batch: Batch, module: str) -> Float[Tensor, " row"]:
        """Return the mean importance of every row of a module's values, as `weights_at` does."""
        _, positions = row_positions(values, batch, module)
        total = torch.zeros(len(positions), dtype=torch.float64, device=positions.device)
        known = [self.importance[name] for name in names if name in self.importance]
        for weights in known:
            total += weights_at(positions, weights)
        return (total / len(known) if known else total + 1).to(values)


def sufficient(batches: Sequence[Batch], projection: Projection) -> Sequence[Batch]:
    """Return as many samples as suffice for choices among the units of the large model."""
    widest = max((axis.size for axis, _ in projection.axes.values()), default=1)
    return first_batches(batches, partial(token_count, projection.large.config), ROWS_PER_INPUT * widest)
