"""Training targets of a merged model: what the parents predict on average, or the labels.

The parents' probabilities of a large vocabulary are not kept. What their heads read is kept instead, which is a
hundred times smaller, and the probabilities are computed slice by slice.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, labels_of, sample_indices
from transfuse.base.batch_cache import BatchCache
from transfuse.base.budget import cache_bytes
from transfuse.config.literals import LearningOptions
from transfuse.distillation.sliced_loss import slice_entries
from transfuse.distillation.target_cache import TargetCache
from transfuse.distillation.teacher_weighting import Shares, TeacherOutputs, WeightingFn, teacher_weights, weighted_rows
from transfuse.network.output_losses import SOFTMAX, OutputLoss, output_loss
from transfuse.network.outputs import AnswerStates


@dataclass(frozen=True)
class GivenTargets:
    """Labels [answer], or probabilities, numbers or embeddings [answer, entry]."""

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> Tensor:
        return self.values[rows]

    def slices(self) -> list[slice]:
        """Return the slices in which the targets are best read: all at once, since they are in memory anyway."""
        return [slice(None)]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.values.nbytes

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same targets with `change` applied to every tensor, such as a transfer to a device."""
        return replace(self, values=change(self.values))


@dataclass(frozen=True)
class EnsembleTargets:
    """The mean of what the parents predict, computed when it is read.

    Attributes:
        parents: what the head of each parent reads.
        shares: weight of each parent for each answer.
        loss: the loss of their outputs.
    """

    parents: Sequence[AnswerStates]
    shares: Float[Tensor, "model answer"]
    loss: OutputLoss = SOFTMAX

    def __len__(self) -> int:
        return len(self.parents[0])

    @torch.no_grad()
    def __getitem__(self, rows: slice) -> Float[Tensor, "answer cls"]:
        predictions = self.loss.predictions
        return weighted_rows(self.shares[:, rows], (predictions(parent.logits(rows)) for parent in self.parents))

    def slices(self) -> list[slice]:
        """Return the slices in which the targets are best read."""
        return self.parents[0].slices(slice_entries(self.shares.device))

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.shares.nbytes + sum(parent.states.nbytes for parent in self.parents)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same targets with `change` applied to every tensor, such as a transfer to a device."""
        parents = [replace(parent, states=change(parent.states)) for parent in self.parents]
        return replace(self, parents=parents, shares=change(self.shares))


BatchTargets = GivenTargets | EnsembleTargets


class Targets:
    """Compute the targets of batches, and cache those of batches that recur."""

    def __init__(
        self,
        parents: Sequence[PreTrainedModel],
        weights: Sequence[float],
        options: LearningOptions,
        weighting: WeightingFn,
        recurring: Iterable[Batch],
        loss: OutputLoss | None = None,
    ) -> None:
        """
        Args:
            weights: one weight per parent. They sum to one.
            weighting: method that weights the parents per sample.
            recurring: batches whose targets are cached. Augmented batches are not among them.
            loss: the loss of the outputs that are trained; None: that of the models' class.
        """
        self.loss = loss or output_loss(parents[0])
        self.parents = parents
        self.weights = weights
        self.weighting = weighting
        self.from_labels = options.objective == "labels"
        recurring = list(recurring)
        self.cache = TargetCache(recurring, cache_bytes("parent predictions"), parents[0].device)
        self.shares = BatchCache(recurring, cache_bytes("parent predictions"))  # the models may run to compute them

    def of_batch(self, batch: Batch) -> BatchTargets:
        """Return the targets of a batch, one for each answer."""
        return GivenTargets(labels_of(batch)) if self.from_labels else self.cache.get_or_compute(batch, self._ensemble)

    @torch.no_grad()
    def of_answers(
        self, answers: Sequence[AnswerStates], batch: Batch, shares: Shares | None = None
    ) -> tuple[BatchTargets, Shares]:
        """Return the targets of a batch, given what the parents' heads read, and the weights of the parents.

        Args:
            shares: these weights, if they are known.
        """
        if shares is None:
            shares = self.shares.get_or_compute(batch, partial(self._weigh, answers))
        if self.from_labels:
            return GivenTargets(labels_of(batch)), shares
        samples = sample_indices(batch, len(answers[0])).to(shares.device)
        ensemble = EnsembleTargets(answers, shares[:, samples], self.loss)
        is_large = sum(parent.states.shape[1] for parent in answers) < answers[0].classes
        return ensemble if is_large else GivenTargets(ensemble[:]), shares

    def shares_of(self, batch: Batch) -> Shares:
        """Return the weights of the parents for a batch that recurs. Parents run only if the weighting needs them."""

        def weight_fn(batch: Batch) -> Shares:
            shares = teacher_weights(self.weighting, self.parents, self.weights, batch)
            return shares.to(self.parents[0].device, torch.float32)

        return self.shares.get_or_compute(batch, weight_fn)

    def _weigh(self, answers: Sequence[AnswerStates], batch: Batch) -> Shares:
        slices = [parent.in_slices(slice_entries(parent.states.device)) for parent in answers]
        shares = self.weighting(TeacherOutputs(slices, self.weights, batch, self.loss, self.parents))
        return shares.to(answers[0].states.device, torch.float32)

    @torch.no_grad()
    def _ensemble(self, batch: Batch) -> BatchTargets:
        return self.of_answers([self.loss.answers(parent, batch) for parent in self.parents], batch)[0]
