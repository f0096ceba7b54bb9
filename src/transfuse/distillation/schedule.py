"""How long a training runs, and its learning rate: a number of steps, or until held-out samples stop improving."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import inf
from statistics import fmean
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from transfuse.base.distributed import process_group
from transfuse.config.literals import LearningOptions

CONSTANT_SHARE = 0.25  # of the time with constant learning rates; they fall to zero in the rest
MAX_SPENT = 0.5  # largest share of the time that counts as spent before the training
PATIENCE = 300  # steps in which the mean validation loss must be lower than in as many before
MIN_VALIDATIONS = 4  # in so many steps
MIN_PROGRESS = 0.01  # of the whole improvement so far, by which they must improve


class Schedule(ABC):
    """Set the learning rates after each step, and tell when to stop."""

    @abstractmethod
    def step(self) -> None:
        """Set the learning rates for the next step."""

    @abstractmethod
    def spend(self, seconds: float) -> None:
        """Take note of the time since the beginning of the run, if part of it was spent elsewhere."""

    @abstractmethod
    def validated(self, losses: Sequence[float], interval: int) -> None:
        """Take note of the validation losses so far.

        Args:
            interval: the number of steps between two of them.
        """

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether no step is left."""

    @property
    @abstractmethod
    def progress(self) -> float:
        """The share of the run that is done."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state returned by `state_dict`."""


class FixedSteps(Schedule):
    """Take a given number of steps, with learning rates that fall to zero along a cosine."""

    def __init__(self, optimizers: Sequence[Optimizer], steps: int) -> None:
        self.steps = steps
        self.taken = 0
        self.schedulers = [CosineAnnealingLR(optimizer, steps) for optimizer in optimizers]

    def step(self) -> None:
        self.taken += 1
        for scheduler in self.schedulers:
            scheduler.step()

    def spend(self, seconds: float) -> None:
        pass

    def validated(self, losses: Sequence[float], interval: int) -> None:
        pass

    @property
    def finished(self) -> bool:
        return self.taken >= self.steps

    @property
    def progress(self) -> float:
        return self.taken / self.steps

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self.taken, "schedulers": [scheduler.state_dict() for scheduler in self.schedulers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.taken = state["taken"]
        for scheduler, values in zip(self.schedulers, state["schedulers"], strict=True):
            scheduler.load_state_dict(values)


class UntilFlat(Schedule):
    """Train until held-out samples stop improving or the time is used up.

    Learning rates are constant in the first quarter of the time, and then fall linearly to zero (Bergsma et al.,
    2502.15938, find that this is best). If held-out samples stop improving before, the rates fall to zero in as many
    steps as were taken. The number of steps need not be known before. With several processes, the first one's clock
    counts.
    """

    def __init__(self, optimizers: Sequence[Optimizer], seconds: float) -> None:
        """
        Args:
            seconds: the time that the run may take.
        """
        self.optimizers = optimizers
        self.rates = [group["lr"] for group in self._groups()]
        self.seconds = seconds
        self.elapsed = 0.0
        self.taken = 0
        self.fall: tuple[int, float] | None = None  # the steps at which the learning rates begin and end to fall
        self.clock = time.monotonic()

    def step(self) -> None:
        now = time.monotonic()
        self.elapsed = process_group().all_gather(self.elapsed + now - self.clock)[0]
        self.clock = now
        self.taken += 1
        if self.fall is None and self.elapsed >= CONSTANT_SHARE * self.seconds:
            self.fall = self.taken, inf  # until the end of the time
        if self.fall:
            begin, end = self.fall
            by_steps = 1.0 if end == inf else (end - self.taken) / (end - begin)
            by_time = (self.seconds - self.elapsed) / ((1 - CONSTANT_SHARE) * self.seconds)
            for group, rate in zip(self._groups(), self.rates, strict=True):
                group["lr"] = rate * max(0.0, min(1.0, by_steps, by_time))

    def spend(self, seconds: float) -> None:
        spent = min(process_group().all_gather(seconds)[0], MAX_SPENT * self.seconds)
        self.elapsed = max(self.elapsed, spent)
        self.clock = time.monotonic()

    def validated(self, losses: Sequence[float], interval: int) -> None:
        trained = losses[1:]  # a good start is worse after its first steps, and has to recover
        count = max(PATIENCE // interval, MIN_VALIDATIONS)
        if (self.fall is None or self.fall[1] == inf) and len(trained) >= 2 * count:
            before, now = fmean(trained[-2 * count : -count]), fmean(trained[-count:])  # losses fluctuate
            if before - now <= MIN_PROGRESS * (max(losses) - min(trained)):
                self.fall = self.taken, 2 * self.taken

    @property
    def finished(self) -> bool:
        return self.elapsed >= self.seconds or (self.fall is not None and self.taken >= self.fall[1])

    @property
    def progress(self) -> float:
        if self.finished:
            return 1.0
        by_time = self.elapsed / self.seconds
        return max(by_time, self.taken / self.fall[1]) if self.fall else by_time

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed": self.elapsed, "taken": self.taken, "fall": self.fall, "rates": self.rates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.elapsed = state["elapsed"]
        self.taken = state["taken"]
        self.fall = state["fall"]
        self.rates = state["rates"]
        self.clock = time.monotonic()

    def _groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups, which an optimizer replaces when it loads a state."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]


def schedule(optimizers: Sequence[Optimizer], options: LearningOptions) -> Schedule:
    """Return the schedule of a training: a number of steps if it was given, otherwise until the time is used up."""
    if options.steps is None:
        return UntilFlat(optimizers, 60 * options.minutes)
    return FixedSteps(optimizers, options.steps)
