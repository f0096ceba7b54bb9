"""Validation of a merged model during training, and the split of the samples that it needs."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, has_targets, validation_split
from transfuse.distillation.sliced_loss import total_cross_entropy
from transfuse.distillation.targets import Targets
from transfuse.errors import NO_TARGETS, DataError, SpecError
from transfuse.network.outputs import AnswerStates, answer_states, has_logits

AnswersFn = Callable[[Batch], AnswerStates]
BatchSplit = tuple[Sequence[Batch], Sequence[Batch]]  # training and validation batches


def split_with_answers(
    model: PreTrainedModel, batches: Sequence[Batch], subject: str
) -> tuple[list[Batch], list[Batch]]:
    """Return training and validation batches, without those that have no answer to predict.

    Args:
        model: any of the parents.
        subject: what is trained, for the error messages.

    Raises:
        DataError: no batch has an answer to predict, or there are fewer than two samples.
        SpecError: the model has no prediction head.
    """
    answered = [batch for batch in batches if has_targets(batch)]
    if batches and not answered:
        raise DataError(NO_TARGETS)
    train, validation = validation_split(answered)
    if not train or not validation:
        raise DataError(f"learning {subject} needs at least two samples, to train on and to validate on; give more")
    if not has_logits(model):
        raise SpecError(
            f"{type(model).__name__} has no prediction head, which learning {subject} needs;"
            " choose other values for align and merge"
        )
    return train, validation


class Validation:
    """Measure a model by its validation loss in excess of the parents' loss."""

    def __init__(
        self, parents: Sequence[PreTrainedModel], weights: Sequence[float], batches: Sequence[Batch], targets: Targets
    ) -> None:
        """Measure the parents: the weighted mean of their validation losses."""
        self.batches = batches
        self.targets = targets
        pairs = zip(weights, parents, strict=True)
        self.parents_loss = sum(weight * self.loss(partial(answer_states, parent)) for weight, parent in pairs)

    def excess_loss(self, answers_fn: AnswersFn) -> float:
        """Return the loss of a model minus the mean loss of the parents, in nats."""
        return self.loss(answers_fn) - self.parents_loss

    @torch.no_grad()
    def loss(self, answers_fn: AnswersFn) -> float:
        """Return the mean cross-entropy over all answers of the validation batches, in nats."""
        total = 0.0
        count = 0
        for batch in self.batches:
            targets = self.targets.of_batch(batch)
            total += float(total_cross_entropy(answers_fn(batch), targets))
            count += len(targets)
        return total / count
