"""Validation of a merged model during training, and the split of the samples that it needs."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Literal

import torch
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, has_targets, validation_split
from transfuse.distillation.sliced_loss import total_loss
from transfuse.distillation.targets import Targets
from transfuse.errors import NO_TARGETS, DataError, SpecError
from transfuse.network.outputs import AnswerStates, has_logits
from transfuse.network.precision import mixed_precision

AnswersFn = Callable[[Batch], AnswerStates]
INTERVAL = 25  # steps between two validations, or a multiple of it
PASSES = 3  # of a model in a step, where a validation takes one: forward, and backward, which takes twice as long
SHARE = 0.1  # of the passes of the training, which validation may take
MIN_SCALE = 1e-3  # smallest loss of parents that others are divided by, relative to the variance of the targets
BatchSplit = tuple[Sequence[Batch], Sequence[Batch]]  # training and validation batches


def split_samples(
    batches: Sequence[Batch], user: str, usable: Callable[[Batch], bool] = has_targets
) -> tuple[list[Batch], list[Batch]]:
    """Return training and validation batches.

    Args:
        user: what needs the samples, for messages.
        usable: whether a batch counts; the others are left out. By default, those that have something to predict.

    Raises:
        DataError: no batch counts, or there are fewer than two samples.
    """
    if batches and not any(map(usable, batches)):
        raise DataError(NO_TARGETS)
    train, validation = validation_split(batches, usable)
    if not train or not validation:
        raise DataError(f"{user} needs at least two samples, one of them to validate on; give more")
    return train, validation


def split_with_answers(
    model: PreTrainedModel, batches: Sequence[Batch], subject: Literal["maps", "weights"]
) -> tuple[list[Batch], list[Batch]]:
    """Return training and validation batches, without those that have no answer to predict.

    Args:
        model: any of the parents.
        subject: what is trained. Maps need predictions, since they change the basis that embeddings are in.

    Raises:
        DataError: no batch has an answer to predict, or there are fewer than two samples.
        SpecError: the model has no prediction head, and maps are trained.
    """
    train, validation = split_samples(batches, f"learning {subject}")
    if subject == "maps" and not has_logits(model):
        raise SpecError(
            f"{type(model).__name__} has no prediction head, which learning {subject} needs;"
            " choose another value for align"
        )
    return train, validation


class Validation:
    """Measure a model by its validation loss in excess of the parents' loss.

    Attributes:
        scale: what losses are divided by: for squared errors, which have no unit of their own, the parents' loss, so
            that they count as much as nats do where parents disagree, or the variance of a single parent's outputs,
            whose loss is zero; 1 otherwise.
        unit: of the losses, for sentences: "nats", "of the parents' loss" or "of the targets' variance".
    """

    def __init__(
        self, parents: Sequence[PreTrainedModel], weights: Sequence[float], batches: Sequence[Batch], targets: Targets
    ) -> None:
        """Measure the parents: the weighted mean of their validation losses."""
        self.batches = batches
        self.targets = targets
        self.scale, self.unit = 1.0, "nats"
        pairs = zip(weights, parents, strict=True)
        self.parents_loss = sum(weight * self.loss(partial(targets.loss.answers, parent)) for weight, parent in pairs)
        if targets.loss.is_relative:
            variance = self._variance()
            self.unit = "of the parents' loss" if len(parents) > 1 else "of the targets' variance"
            self.scale = (max(self.parents_loss, MIN_SCALE * variance) if len(parents) > 1 else variance) or 1.0
            self.parents_loss /= self.scale

    def interval(self, samples_per_step: float) -> int:
        """Return the number of steps between two validations, so that these take a small part of the training."""
        steps = sum(map(batch_size, self.batches)) / (SHARE * PASSES * samples_per_step)
        return INTERVAL * max(1, round(steps / INTERVAL))

    def excess_loss(self, answers_fn: AnswersFn) -> float:
        """Return the loss of a model minus the mean loss of the parents, in nats or relative to that of the parents."""
        return self.loss(answers_fn) - self.parents_loss

    @torch.no_grad()
    def loss(self, answers_fn: AnswersFn) -> float:
        """Return the mean loss over all answers of the validation batches, in nats or relative to the parents'.

        Losses in nats are measured in the precision of the training, which is the faster one for large models. Squared
        errors of numbers are not, because they can be as small as its rounding.
        """
        total = 0.0
        count = 0
        mixed = nullcontext() if self.targets.loss.is_relative else mixed_precision(self.targets.parents[0].device)
        with mixed:
            for batch in self.batches:
                targets = self.targets.of_batch(batch)
                total += float(total_loss(answers_fn(batch), targets, self.targets.loss))
                count += len(targets)
        return total / count / self.scale

    @torch.no_grad()
    def _variance(self) -> float:
        """Return the variance of the targets, as mean over their entries."""
        targets = [self.targets.of_batch(batch)[:].double() for batch in self.batches]
        count = sum(map(len, targets))
        mean = torch.stack([values.sum(0) for values in targets]).sum(0) / count
        squares = torch.stack([(values - mean).square().sum(0) for values in targets]).sum(0) / count
        return float(squares.mean())
