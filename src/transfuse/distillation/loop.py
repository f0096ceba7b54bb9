"""Gradient descent toward the parents' predictions or toward labels, with validation and early stopping."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from math import inf, isfinite
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size
from transfuse.base.distributed import process_group
from transfuse.config.literals import LearningOptions
from transfuse.data.image.augment import augment
from transfuse.distillation.batch_order import BatchOrder
from transfuse.distillation.history import History, TrackFn, untracked
from transfuse.distillation.optimizers import average_gradients
from transfuse.distillation.schedule import schedule
from transfuse.distillation.targets import Targets
from transfuse.distillation.teacher_weighting import WeightingFn, uniform
from transfuse.distillation.training_state import TrainingState
from transfuse.distillation.validation import AnswersFn, BatchSplit, Validation
from transfuse.distillation.weight_copies import copy_weights
from transfuse.network.output_losses import OutputLoss

SAVE_SECONDS = 60  # smallest time between two saved states
PERCENT = 100  # parts of a run, for the progress display


class TrainingLoop(TrainingState, ABC):
    """Train the weights of some modules and restore those with the lowest validation loss.

    A subclass defines the training loss and the merged model that is validated.

    Attributes:
        patience: validations without improvement after which training stops. None: it never stops early.
        lr_patience: share of all steps without improvement after which the best weights are restored and the learning
            rate is halved. 0: never.
        batches_per_step: batches whose gradients are averaged in one step.
    """

    patience: ClassVar[int | None] = None
    lr_patience: ClassVar[float] = 0.0
    batches_per_step: int = 1

    def __init__(
        self,
        modules: Sequence[nn.Module],
        optimizers: Sequence[Optimizer],
        parents: Sequence[PreTrainedModel],
        weights: Sequence[float],
        batches: BatchSplit,
        options: LearningOptions,
        weighting: WeightingFn = uniform,
        seed: int = 0,
        output_loss: OutputLoss | None = None,
    ) -> None:
        """Validate the untrained weights.

        Args:
            modules: the modules whose weights are saved and restored.
            optimizers: optimizers of their trainable parameters.
            weights: one weight per parent. They sum to one.
            batches: training and validation batches.
            weighting: method that weights the parents per sample.
            output_loss: the loss of what the models put out; None: that of their class.
        """
        self.modules = modules
        self.parents = parents
        self.weights = weights
        self.options = options
        self.seed = seed
        self.train_batches, self.validation_batches = batches
        recurring = [*self.train_batches, *self.validation_batches]
        self.targets = Targets(parents, weights, options, weighting, recurring, output_loss)
        self.output_loss = self.targets.loss
        self.validation = Validation(parents, weights, self.validation_batches, self.targets)
        self.restart(optimizers)

    def restart(self, optimizers: Sequence[Optimizer]) -> None:
        """Begin anew from the current weights, and validate them."""
        self.optimizers = optimizers
        self.schedule = schedule(optimizers, self.options)
        self.order = BatchOrder(len(self.train_batches), self.seed)
        self.steps = 0
        loss = self.excess_loss()
        self.validation_losses = [loss if isfinite(loss) else inf]  # every later loss is lower
        self.validated_at = [0]
        self.best_weights = copy_weights(self.modules)
        self.stalled = 0  # validations without improvement since the last improvement or restart
        self.diverged = False

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Return the training loss of a batch."""

    @abstractmethod
    def answers_fn(self) -> AnswersFn:
        """Return the merged model, with its current weights, as a function from a batch to what its head reads."""

    def run(self, subject: str, state: Path | None = None, track: TrackFn = untracked) -> History:
        """Train, restore the weights with the lowest validation loss, and return the history.

        Args:
            subject: what is trained, for the progress display.
            state: file from which an interrupted run is resumed, and to which this run saves its state.
            track: iterates over the steps and displays progress.
        """
        self._resume(state)
        saved = -inf
        done = int(PERCENT * self.schedule.progress)
        for percent in track(range(done, PERCENT), partial(self._status, subject)):
            while self.should_continue and PERCENT * self.schedule.progress < percent + 1:
                self.step()
                if self.steps % self.validation_interval == 0 or self.schedule.finished:
                    self.validate()
                    if time.monotonic() - saved >= SAVE_SECONDS:
                        self.save(state)
                        saved = time.monotonic()
        self.restore_best()
        losses = tuple(self.validation_losses)
        best = self.validated_at[losses.index(min(losses))]
        return History(losses, self.steps, best, tuple(self.validated_at), self.validation.unit)

    def validate(self) -> None:
        """Measure the current weights on the validation samples, and keep them if they are the best.

        If the loss is not finite, the training has diverged, and ends.
        """
        loss = self.excess_loss()
        if not isfinite(loss):
            self.diverged = True
            return
        self.validation_losses.append(loss)
        self.validated_at.append(self.steps)
        if self.validation_losses[-1] < min(self.validation_losses[:-1]):
            self.best_weights = copy_weights(self.modules)
            self.stalled = 0
        else:
            self.stalled += 1
        if self._lr_patience_exhausted:
            self.restore_best()
            self._halve_learning_rates()
        self.schedule.validated(self.validation_losses, self.validation_interval)

    @property
    def validation_interval(self) -> int:
        """Return the number of steps between two validations."""
        samples = self.batches_per_step * sum(map(batch_size, self.train_batches)) / len(self.train_batches)
        return self.validation.interval(samples)

    @property
    def should_continue(self) -> bool:
        """Whether steps are left and the patience is not exhausted."""
        best = self.validation_losses.index(min(self.validation_losses))
        patient = self.patience is None or len(self.validation_losses) - 1 - best < self.patience
        return not self.schedule.finished and patient and not self.diverged

    @torch.enable_grad()
    def step(self) -> None:
        """Take one step along the mean gradient of the next `batches_per_step` batches."""
        self._zero_grad()
        for _ in range(self.batches_per_step):
            (self.loss(self._draw_batch()) / self.batches_per_step).backward()
        average_gradients(self._parameter_groups())
        for optimizer in self.optimizers:
            optimizer.step()
        self.schedule.step()
        self.steps += 1

    @torch.no_grad()
    def excess_loss(self) -> float:
        """Return the validation loss of the merged model minus the mean validation loss of the parents.

        All processes of a run get that of the first, whose rounding may differ, so that all decide alike.
        """
        return process_group().all_gather(self.validation.excess_loss(self.answers_fn()))[0]

    @property
    def _lr_patience_exhausted(self) -> bool:
        if self.options.steps is None or not self.lr_patience:
            return False
        return self.stalled >= max(1, self.lr_patience * self.options.steps // self.validation_interval)

    def _halve_learning_rates(self) -> None:
        self.stalled = 0
        for group in self._parameter_groups():
            group["lr"] /= 2

    def _parameter_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _draw_batch(self) -> Batch:
        """Return the next training batch, augmented if the options say so."""
        batch = self._training_batch(self.order.draw())
        method = self.options.augment
        if method == "auto" or method == "none":
            return batch
        return {**batch, "pixel_values": augment(batch["pixel_values"], method, self.order.generator)}

    def _training_batch(self, index: int) -> Batch:
        """Return the training batch at an index."""
        return self.train_batches[index]

    def _status(self, subject: str) -> str:
        """Return the progress line."""
        losses = self.validation_losses
        reached = f"{losses[-1]:.3f} {self.validation.unit} above the parents (at first {losses[0]:.3f})"
        return f"learning {subject}, step {self.steps}: {reached}"
