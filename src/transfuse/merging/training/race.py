"""A race of starts: several models are trained for the same number of steps, and some of them go on.

One training loop trains them in turn. Each start continues from the state in which it was left.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.distributed import seconds_since
from transfuse.distillation.loop import TrainingLoop
from transfuse.distillation.validation import INTERVAL
from transfuse.merging.training.idle_states import IdleStates
from transfuse.merging.training.learned_weights import WeightDistillation

STEPS = tuple(INTERVAL * count for count in (1, 3, 6, 9, 12))  # up to which the rounds go
CATCHING_UP = 2 / 3  # the largest share of a difference in loss that is left after a round in which a model catches up
ROUND_SHARE = 0.05  # of the time, after which a start ends its round early


@dataclass
class StartChoice:
    """The chosen start.

    Attributes:
        start: its name.
        losses: the last validation loss of each start minus the mean of the parents, in the unit of the loop.
        untrained: the same before its training.
        best: the name of the start with the lowest loss of all.
        best_loss: this loss.
        best_steps: the number of steps after which it was reached; 0 if it was before the training.
        best_weights: the weights that reach it.
    """

    start: str = ""
    losses: dict[str, float] = field(default_factory=dict)
    untrained: dict[str, float] = field(default_factory=dict)
    best: str = ""
    best_loss: float = float("inf")
    best_steps: int = 0
    best_weights: Any = None

    def update(self, name: str, loop: TrainingLoop) -> None:
        """Take note of what a start has reached."""
        losses = loop.validation_losses
        self.losses[name] = losses[-1]
        self.untrained[name] = losses[0]
        if min(losses) < self.best_loss:
            self.best, self.best_loss, self.best_weights = name, min(losses), loop.best_weights
            self.best_steps = loop.validated_at[losses.index(self.best_loss)]


class Race:
    """Starts of a training, with the state that each has reached.

    Attributes:
        loop: the training. It holds the first start when the race begins, and the chosen one when it ends.
        choice: what the starts have reached so far.
        early, late: the steps up to which starts are trained in the first two rounds. Without time for training, they
            are 0.
        duels: the same in later rounds, in which two starts take part.
    """

    def __init__(self, loop: WeightDistillation, folder: Path) -> None:
        """
        Args:
            folder: for states that take too much memory.
        """
        self.loop = loop
        self.choice = StartChoice()
        self.early, self.late, *self.duels = STEPS if loop.options.trains else (0, 0)
        self._states = IdleStates(folder)
        self._courses: dict[str, list[float]] = {}  # the validation losses of each start

    def enter(self, name: str, model: PreTrainedModel | None = None, streams: bool = True) -> str:
        """Add a start, and return its name.

        Args:
            model: its weights; None: those that the training holds.
            streams: whether it is trained toward the parents' streams, and not by predictions alone.
        """
        if self._courses:  # the first start is the training as it is
            self.loop.start_from(model, streams=streams)
        self._keep(name)
        return name

    def train(self, names: Sequence[str], steps: int) -> None:
        """Train starts up to a number of steps, one after the other."""
        for name in names:
            self._load(name)
            _advance(self.loop, steps)
            self._keep(name)

    def best(self, names: Sequence[str]) -> str:
        """Return the start with the lowest loss, if the last improvements continue."""
        return min(names, key=lambda name: _expected(self._courses[name]))

    def contenders(self, names: Sequence[str], before: Mapping[str, float]) -> list[str]:
        """Return the best start, and the second best if their difference shrinks.

        Args:
            before: the loss of each start before the last round.
        """
        now = self.choice.losses
        first, *others = sorted(names, key=now.__getitem__)[:2]
        shrinks = [name for name in others if now[name] - now[first] < CATCHING_UP * abs(before[name] - before[first])]
        return [first, *shrinks]

    def keep_only(self, names: Sequence[str]) -> None:
        """Forget the states of all other starts."""
        self._states.keep_only(names)

    def finish(self, name: str) -> None:
        """Let the training continue from one start, and forget all states."""
        self.choice.start = name
        self._load(name)
        self._states.keep_only([])

    def _load(self, name: str) -> None:
        self.loop.release()
        self.loop.load_state_dict(self._states.pop(name))

    def _keep(self, name: str) -> None:
        self._courses[name] = list(self.loop.validation_losses)
        self._states.put(name, self.loop)
        self.choice.update(name, self.loop)


def _expected(losses: Sequence[float]) -> float:
    """Return the next loss if the last improvement repeats itself."""
    return losses[-1] - max(0.0, losses[-2] - losses[-1]) if len(losses) > 1 else losses[-1]


def _advance(loop: WeightDistillation, steps: int) -> None:
    """Take steps up to a number, or fewer if they take too long or fewer were asked for, and validate."""
    fixed = loop.options.steps
    end = steps if fixed is None else min(steps, fixed)
    limit = ROUND_SHARE * 60 * loop.options.minutes
    begin = time.monotonic()
    before = loop.steps
    while loop.steps < end and not loop.diverged and (fixed is not None or seconds_since(begin) < limit):
        loop.step()
        if loop.steps % loop.validation_interval == 0:
            loop.validate()
    if loop.steps > before and loop.validated_at[-1] < loop.steps and not loop.diverged:
        loop.validate()
