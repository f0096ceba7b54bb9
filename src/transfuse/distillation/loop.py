"""Gradient descent towards what parents say of samples, without labels: the loop of whatever learns by it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, has_answers, held_out
from transfuse.base.distributed import process_group
from transfuse.base.run_state import load_state, save_state
from transfuse.config.literals import LearningOptions
from transfuse.data.augment import varied
from transfuse.distillation.targets import Targets
from transfuse.distillation.teacher_weighting import WeightingFn, uniform
from transfuse.errors import NOTHING_SAID, DataError, SpecError
from transfuse.network.model import has_scores, predict

VALIDATION_INTERVAL = 25  # steps between two looks at held-out samples

LogitsFn = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class History:
    """How learning went.

    Attributes:
        excess: held-out loss of the merged model over the mean of the parents' own, before and after every so many
            steps: the barrier at the middle.
        steps: taken; `best`: of them, those up to what was kept.
    """

    excess: tuple[float, ...]
    steps: int
    best: int


class TrainingLoop(ABC):
    """Over what some modules hold; what was best on held-out samples is kept."""

    patience: ClassVar[int | None] = None  # looks without a better one, after which it ends; None: it goes to the end
    slows: ClassVar[float] = 0.0  # share of all steps which, none of them better, are taken back; 0: none are
    draws: int = 1  # batches of a step, one after the other

    def __init__(
        self,
        modules: Sequence[nn.Module],
        optimizers: Sequence[Optimizer],
        parents: Sequence[PreTrainedModel],
        weights: Sequence[float],
        halves: tuple[Sequence[Batch], Sequence[Batch]],
        options: LearningOptions,
        believe: WeightingFn = uniform,
        seed: int = 0,
    ) -> None:
        """
        Args:
            modules: what is kept where it is best; `optimizers`: of those of its parameters that move.
            halves: samples to learn from, as many at a time as a batch has, and to choose by.
        """
        self.modules, self.parents, self.weights, self.options = modules, parents, weights, options
        self.generator = torch.Generator().manual_seed(seed)
        self.fit, self.held = halves
        self.objective = Targets(parents, weights, options, believe, [*self.fit, *self.held])
        self.optimizers = optimizers
        self.paces = [CosineAnnealingLR(each, options.steps) for each in optimizers]
        self.base = self._of_parents()
        self.steps, self.worse, self.looks = 0, 0, [self.look()]
        self.kept = self._copy()

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """What a step makes less."""

    @abstractmethod
    def said(self) -> LogitsFn:
        """What the merged model says, as it is now."""

    @property
    def goes_on(self) -> bool:
        """Whether another step may help."""
        best = self.looks.index(min(self.looks))
        patient = self.patience is None or len(self.looks) - 1 - best < self.patience
        return self.steps < self.options.steps and patient

    def step(self) -> None:
        """One step, and now and then a look at held-out samples."""
        self._forget()
        for _ in range(self.draws):
            (self.loss(self._drawn()) / self.draws).backward()
        self._average()
        for each in self._moving():
            each.step()
        self.steps += 1
        if self.steps % VALIDATION_INTERVAL == 0 or self.steps == self.options.steps:
            self.looks.append(self.look())
            if self.looks[-1] < min(self.looks[:-1]):
                self.kept, self.worse = self._copy(), 0
            else:
                self.worse += 1
            if self.slows and self.worse >= max(1, self.slows * self.options.steps // VALIDATION_INTERVAL):
                self._take_back()

    def _take_back(self) -> None:
        """Go on from what was best, half as fast."""
        self._load(self.kept)
        self.worse = 0
        for group in self._groups():
            group["lr"] /= 2

    def _moving(self) -> list[Optimizer | LRScheduler]:
        """What takes steps, in order."""
        return [*self.optimizers, *self.paces]

    def _groups(self) -> list[dict[str, Any]]:
        """Of parameters that move, and how fast."""
        return [group for each in self.optimizers for group in each.param_groups]

    def _forget(self) -> None:
        """All gradients."""
        for each in self.optimizers:
            each.zero_grad()

    def _average(self) -> None:
        """Over all processes, each of which drew samples of its own."""
        group = process_group()
        moving = (each.grad for group in self._groups() for each in group["params"])
        every = [grad for grad in moving if grad is not None]
        if group.count > 1:
            for own, total in zip(every, group.all_reduce(every), strict=True):
                own.copy_(total / group.count)

    @torch.no_grad()
    def look(self) -> float:
        """Held-out loss of the merged model over the parents' own."""
        return self._held_loss(self.said()) - self.base

    @torch.no_grad()
    def _of_parents(self) -> float:
        """The weighted mean of the parents' held-out losses."""
        pairs = zip(self.weights, self.parents, strict=True)
        return sum(weight * self._held_loss(partial(predict, parent)) for weight, parent in pairs)

    def _held_loss(self, say: LogitsFn) -> float:
        """How far what is said is from what should be, per answer that is asked for."""
        total, count = 0.0, 0
        for batch in self.held:
            wanted = self.objective.wanted(batch)
            total += len(wanted) * float(cross_entropy(say(batch), wanted))
            count += len(wanted)
        return total / count

    def best(self) -> History:
        """Go back to what was best on held-out samples."""
        self._load(self.kept)
        self._forget()
        return History(
            tuple(self.looks), self.steps, min(self.looks.index(min(self.looks)) * VALIDATION_INTERVAL, self.steps)
        )

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on."""
        return {
            "modules": self._copy(),
            "kept": self.kept,
            "steps": self.steps,
            "worse": self.worse,
            "looks": self.looks,
            "generator": self.generator.get_state(),
            "moving": [each.state_dict() for each in self._moving()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._load(state["modules"])
        for each, values in zip(self._moving(), state["moving"], strict=True):
            each.load_state_dict(values)
        self.steps, self.worse, self.looks = state["steps"], state["worse"], state["looks"]
        self.kept = state["kept"]
        self.generator.set_state(state["generator"])

    def _load(self, copies: Sequence[Mapping[str, Tensor]]) -> None:
        for module, values in zip(self.modules, copies, strict=True):
            module.load_state_dict(values)

    def _copy(self) -> list[dict[str, Tensor]]:
        return [{name: each.clone() for name, each in module.state_dict().items()} for module in self.modules]

    def _drawn(self) -> Batch:
        group = process_group()
        drawn = torch.randint(len(self.fit), (group.count,), generator=self.generator)[group.rank]
        batch = self.fit[int(drawn)]
        if self.options.augment == "none":
            return batch
        return {**batch, "pixel_values": varied(batch["pixel_values"], self.options.augment, self.generator)}


def split_with_answers(model: PreTrainedModel, batches: Sequence[Batch], what: str) -> tuple[list[Batch], list[Batch]]:
    """Samples to learn from and samples to choose by; batches in which nothing is asked are left out.

    Raises:
        DataError: nothing is asked, or there are fewer than two samples to learn `what` from.
        SpecError: the model has no head, so that nothing is said that could be compared.
    """
    asking = [batch for batch in batches if has_answers(batch)]
    if batches and not asking:
        raise DataError(NOTHING_SAID)
    fit, held = held_out(asking)
    if not fit or not held:
        raise DataError(f"learning {what} needs samples to learn from and others to choose by; give two or more")
    if not has_scores(model):
        raise SpecError(f"{type(model).__name__} has no head to learn {what} by; choose another way to align and merge")
    return fit, held


def train(
    descent: TrainingLoop,
    what: str,
    state: Path | None = None,
    each: Callable[[Sequence[int], Callable[[], str]], Iterable[int]] = lambda steps, status: steps,
) -> History:
    """To its end, and back to what was best.

    Args:
        what: is learned, as progress says it.
        state: the file in which a run leaves what it needs to go on, and finds what one before it left.
        each: shows progress.
    """
    if state and (found := load_state(state)):
        descent.load_state_dict(found)

    def status() -> str:
        return f"learning {what}, excess loss {descent.looks[-1]:.3f} (at first {descent.looks[0]:.3f})"

    for _ in each(range(descent.steps, descent.options.steps), status):
        if not descent.goes_on:
            break
        descent.step()
        if state and descent.steps % VALIDATION_INTERVAL == 0 and process_group().first:
            save_state(state, descent.state_dict())
    return descent.best()
