"""The data that layers are fitted to, and the result of a fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import zip_longest

import torch

from transfuse.base.batch import Batch, first_batches
from transfuse.distillation.teacher_weighting import Shares, same_for_all


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
        weight_fn: returns the weight of each parent for each sample of a batch. It may run all parents, so its results
            are kept.
        known_shares: these results, by the `id` of the batch. Parts of a split share them.
    """

    batches: Sequence[Batch]
    weight_fn: Callable[[Batch], Shares]
    known_shares: dict[int, Shares] = field(default_factory=dict)

    @cached_property
    def shares(self) -> list[Shares]:
        """Return the weights of the parents for each batch."""
        for batch in self.batches:
            if id(batch) not in self.known_shares:
                self.known_shares[id(batch)] = self.weight_fn(batch)
        return [self.known_shares[id(batch)] for batch in self.batches]

    @cached_property
    def common_shares(self) -> list[float]:
        """Return the weights of the parents, if they are the same for all samples; otherwise nothing."""
        shares = torch.cat(self.shares, 1)
        return shares[:, 0].tolist() if bool((shares == shares[:, :1]).all()) else []

    def first(self, size: Callable[[Batch], int], needed: float) -> "Split":
        """Return the first batches, whose sizes add up to at least `needed`, or all if there are fewer."""
        return replace(self, batches=first_batches(self.batches, size, needed))

    def alternating_with(self, other: "Split") -> "Split":
        """Return the batches of both in turn, each weighted as before, so that the first batches come from both."""
        others = {id(batch) for batch in other.batches}

        def weight_fn(batch: Batch) -> Shares:
            return (other if id(batch) in others else self).weight_fn(batch)

        pairs = zip_longest(self.batches, other.batches)
        return Split([batch for pair in pairs for batch in pair if batch is not None], weight_fn)


@dataclass(frozen=True)
class CarryTargets:
    """What a model is fitted to where a fine-tune is carried, beside the outputs of all models.

    Attributes:
        answer_weights: weights of the models' predictions on the samples of the task, which the head is fitted to.
        kept: samples on which the first model is to stay as it is.
        keeps_answers: whether its predictions count there; False if it has no head of its own.
        source: the name of these samples; None: there are none.
        split: the split of the source that they are; None: it has no splits.
    """

    answer_weights: Sequence[float]
    kept: Sequence[Batch] = ()
    keeps_answers: bool = True
    source: str | None = None
    split: str | None = None

    def kept_split(self, batches: Sequence[Batch]) -> Split:
        """Return samples on which only the first model counts."""
        return Split(batches, partial(same_for_all, [1.0] + [0.0] * (len(self.answer_weights) - 1)))

    def head_splits(self, task: Sequence[Split], kept: Sequence[Split]) -> list[Split]:
        """Return the samples that the head is fitted to."""
        splits = [Split(split.batches, partial(same_for_all, self.answer_weights)) for split in task]
        if not kept or not self.keeps_answers:
            return splits
        return [split.alternating_with(other) for split, other in zip(splits, kept, strict=True)]
