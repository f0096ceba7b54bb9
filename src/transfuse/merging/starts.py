"""The start of learned weights: the fitted layers, or another model, whichever held-out samples prefer.

A parent can be nearer to the parents' mean than any closed form, for example if it knows most of what both know. Which
start is best shows only after some steps, because fitted layers improve faster. The other models take a few steps
first. The best of them and the fitted layers then take some more, and the one whose loss is lowest goes on, if the last
improvements continue (compare successive halving, Jamieson & Talwalkar, 1502.07943). A second model that catches up
with the best one takes the same steps as that does, because a parent that knows less at first may learn more.

The streams of language models can be too different to be compared, even in one basis. Predictions alone then teach
more, which the fitted layers find out for all starts. If streams teach them more, the best other start is trained by
predictions alone too.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.distributed import process_group, seconds_since
from transfuse.base.run_state import load_state, save_state
from transfuse.distillation.loop import TrainingLoop
from transfuse.distillation.validation import INTERVAL
from transfuse.merging.learned_weights import WeightDistillation

STEPS = (INTERVAL, 3 * INTERVAL, 6 * INTERVAL)  # of the rounds
CATCHING_UP = 2 / 3  # the largest share of a difference in loss that is left after a round in which a model catches up
FITTED = "fitted layers"
PREDICTIONS_ONLY = " (predictions only)"  # follows the name of a start whose streams are not matched
ROUND_SHARE = 0.05  # of the time, after which a start ends its round early


@dataclass
class Choice:
    """The chosen start.

    Attributes:
        start: its name.
        losses: the last validation loss of each start, in nats above the parents.
        best: the name of the start with the lowest loss of all.
        best_loss: this loss.
        best_steps: the number of steps after which it was reached; 0 if it was before the training.
        best_weights: the weights that reach it.
    """

    start: str = ""
    losses: dict[str, float] = field(default_factory=dict)
    best: str = ""
    best_loss: float = float("inf")
    best_steps: int = 0
    best_weights: Any = None

    def update(self, name: str, loop: TrainingLoop) -> None:
        """Take note of what a start has reached."""
        losses = loop.validation_losses
        self.losses[name] = losses[-1]
        if min(losses) < self.best_loss:
            self.best, self.best_loss, self.best_weights = name, min(losses), loop.best_weights
            self.best_steps = loop.validated_at[losses.index(self.best_loss)]


def choose_start(
    loop: WeightDistillation,
    others: Mapping[str, PreTrainedModel],
    saved: Path | None = None,
    compares_targets: bool = False,
) -> Choice:
    """Train each start for some steps, and continue from the one with the lowest validation loss.

    Without steps or time for training, the untrained starts are compared.

    Args:
        loop: the training, which has not begun and holds the fitted layers. It continues from the chosen start.
        others: the other starts, by name.
        saved: file to which the state of the training is saved when the start is chosen, and the choice beside it.
        compares_targets: whether the fitted layers are also trained by predictions only.
    """
    begin = time.monotonic()
    choice = Choice()
    states: dict[str, Any] = {}
    early, late, last = STEPS if loop.options.trains else (0, 0, 0)

    def keep(name: str) -> None:
        states[name] = copy.deepcopy(loop.state_dict())
        choice.update(name, loop)

    def train(names: Sequence[str], steps: int) -> None:
        for name in names:
            loop.load_state_dict(states.pop(name))
            _advance(loop, steps)
            keep(name)

    def best(names: Sequence[str]) -> str:
        return min(names, key=lambda name: _expected(states[name]["validation_losses"]))

    keep(FITTED)
    fitted, kind, untrained = FITTED, "", [FITTED]
    if compares_targets and late:
        loop.start_from(None, streams=False)
        keep(FITTED + PREDICTIONS_ONLY)
        train([FITTED, FITTED + PREDICTIONS_ONLY], late)
        fitted = best([FITTED, FITTED + PREDICTIONS_ONLY])
        kind, untrained = fitted.removeprefix(FITTED), []
        states = {fitted: states[fitted]}  # before those of the others take their memory
    left = []
    for name, model in others.items():
        loop.start_from(model, streams=not kind)
        left.append(name + kind)
        keep(name + kind)
    raced, before = left, dict(choice.losses)
    if len(left) > 1:
        train(left, early)
        raced = left = _contenders(left, before, choice.losses)
        before = dict(choice.losses)
    states = {name: states[name] for name in (fitted, *left)}
    if compares_targets and late and not kind and left:  # what fits layers best need not teach a parent best
        loop.start_from(others[left[0]], streams=False)
        left = [*left, left[0] + PREDICTIONS_ONLY]
        keep(left[-1])
    train([*untrained, *left], late)
    choice.start = best([fitted, *left])
    if choice.start in raced and len(undecided := _contenders(raced, before, choice.losses)) > 1:
        train(undecided, last)
        choice.start = best(undecided)
    loop.load_state_dict(states[choice.start])
    loop.schedule.spend(time.monotonic() - begin)
    loop.save(saved)
    if saved and process_group().first:
        save_state(_choice_file(saved), vars(choice))
    return choice


def saved_choice(saved: Path | None) -> Choice | None:
    """Return the choice of an interrupted run that saved its state to a file; None if it made none."""
    values = load_state(_choice_file(saved)) if saved else None
    return Choice(**values) if values else None


def _choice_file(saved: Path) -> Path:
    return saved.with_name("start.pt")


def _contenders(models: Sequence[str], before: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    """Return the best model, and the second best if their difference shrinks.

    Args:
        before: the loss of each model before the last round.
        now: its loss after it.
    """
    first, *others = sorted(models, key=now.__getitem__)[:2]
    shrinks = [name for name in others if now[name] - now[first] < CATCHING_UP * abs(before[name] - before[first])]
    return [first, *shrinks]


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
