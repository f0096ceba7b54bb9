"""What the parents compute on average for a batch, which learned weights are trained to match."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from jaxtyping import Float
from torch import Tensor

from transfuse.distillation.targets import BatchTargets


@dataclass(frozen=True)
class ParentMeans:
    """Training targets of one batch.

    Attributes:
        targets: what the model is trained to predict.
        streams: mean output of the parents' blocks, one [row, unit] per block except the last.
    """

    targets: BatchTargets
    streams: list[Float[Tensor, "row unit"]]

    @property
    def nbytes(self) -> int:
        return self.targets.nbytes + sum(values.nbytes for values in self.streams)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same targets with `change` applied to every tensor, such as a transfer to a device."""
        return replace(self, targets=self.targets.map(change), streams=[change(values) for values in self.streams])
