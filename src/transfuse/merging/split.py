"""The data that layers are fitted to, and the result of a fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from transfuse.base.batch import Batch
from transfuse.distillation.teacher_weighting import Shares


@dataclass(frozen=True)
class Fit:
    """The result of fitting one layer.

    Attributes:
        ridge: the chosen penalty on deviations from the mean of the weights, relative to the mean square of the inputs.
            None: the mean was kept.
        gain: the share of the mean's validation error that the fit removed. The error is the squared error of a linear
            map's output; for the output head, the gap to the parents' loss in nats. For selected units, it is the gain
            of the means among them.
        units: how many of the selected units are means, and how many come from each parent. None: no selection.
    """

    ridge: float | None
    gain: float
    units: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """Training or validation batches, and the weight of each parent for each of their samples.

    Attributes:
        weigh: returns the weight of each parent for each sample of a batch. It may run all parents, so its results are
            kept.
        weighed: these results, by the `id` of the batch. Parts of a split share them.
    """

    batches: Sequence[Batch]
    weigh: Callable[[Batch], Shares]
    weighed: dict[int, Shares] = field(default_factory=dict)

    @cached_property
    def shares(self) -> list[Shares]:
        """Return the weights of the parents for each batch."""
        for batch in self.batches:
            if id(batch) not in self.weighed:
                self.weighed[id(batch)] = self.weigh(batch)
        return [self.weighed[id(batch)] for batch in self.batches]

    @cached_property
    def common_shares(self) -> list[float]:
        """Return the weights of the parents, if they are the same for all samples; otherwise nothing."""
        shares = torch.cat(self.shares, 1)
        return shares[:, 0].tolist() if bool((shares == shares[:, :1]).all()) else []

    def first(self, size: Callable[[Batch], int], needed: float) -> "Split":
        """Return the first batches, whose sizes add up to at least `needed`, or all if there are fewer."""
        total = 0
        count = 0
        while count < len(self.batches) and total < needed:
            total += size(self.batches[count])
            count += 1
        return replace(self, batches=self.batches[:count])
