"""The state of a training: weights, the best ones so far, optimizers, losses, and which batch comes next."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from transfuse.base.distributed import process_group
from transfuse.base.run_state import load_state, save_state
from transfuse.distillation.batch_order import BatchOrder
from transfuse.distillation.schedule import Schedule
from transfuse.distillation.weight_copies import Weights, copy_weights, current_weights, load_weights


class TrainingState:
    """Save and load the state of a training.

    Attributes:
        modules: the modules that are trained.
        steps: number of steps so far.
        validation_losses: the losses so far, the first of which is that of the untrained weights.
        validated_at: the numbers of steps after which they were measured.
        best_weights: the weights with the lowest of them. They are replaced as a whole and never changed.
        stalled: number of validations without improvement since the last improvement or restart.
        diverged: whether a loss was not finite.
    """

    modules: Sequence[nn.Module]
    optimizers: Sequence[Optimizer]
    schedule: Schedule
    order: BatchOrder
    steps: int
    validation_losses: list[float]
    validated_at: list[int]
    best_weights: Weights
    stalled: int
    diverged: bool

    def restore_best(self) -> None:
        """Load the weights with the lowest validation loss and discard all gradients."""
        load_weights(self.modules, self.best_weights)
        self._zero_grad()

    def snapshot(self) -> dict[str, Any]:
        """Return the state as it is now. It shares the best weights with the training."""
        state = self.state_dict()
        if state["weights"] is not self.best_weights:
            state["weights"] = copy_weights(self.modules)
        unchanged = {id(weights): weights for weights in (state["weights"], self.best_weights)}
        return copy.deepcopy(state, unchanged)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to resume the run.

        All tensors except the best weights change with the next step; `snapshot` returns copies.
        """
        at_best = self.validated_at[-1] == self.steps and not self.stalled
        return {
            "weights": self.best_weights if at_best else current_weights(self.modules),
            "best_weights": self.best_weights,
            "steps": self.steps,
            "stalled": self.stalled,
            "diverged": self.diverged,
            "validation_losses": list(self.validation_losses),
            "validated_at": list(self.validated_at),
            "order": self.order.state_dict(),
            "steppers": [stepper.state_dict() for stepper in self._steppers()],
        }

    def release(self) -> None:
        """Free gradients, best weights and the states of optimizers, before another state is loaded."""
        self._zero_grad()
        self.best_weights = []
        for optimizer in self.optimizers:
            optimizer.state.clear()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state returned by `state_dict`."""
        load_weights(self.modules, state["weights"])
        for stepper, values in zip(self._steppers(), state["steppers"], strict=True):
            stepper.load_state_dict(values)
        self.best_weights = state["best_weights"]
        self.steps = state["steps"]
        self.stalled = state["stalled"]
        self.diverged = state["diverged"]
        self.validation_losses = list(state["validation_losses"])
        self.validated_at = list(state["validated_at"])
        self.order.load_state_dict(state["order"])

    def _resume(self, path: Path | None) -> None:
        """Load the state of an interrupted run, if there is one."""
        if path and (state := load_state(path)):
            self.load_state_dict(state)

    def save(self, path: Path | None) -> None:
        """Save the state, from the first process."""
        if path and process_group().first and not self.diverged:
            save_state(path, self.state_dict())

    def _steppers(self) -> list[Optimizer | Schedule]:
        """Return everything that has a state of its own."""
        return [*self.optimizers, self.schedule]

    def _zero_grad(self) -> None:
        for module in self.modules:
            module.zero_grad()
