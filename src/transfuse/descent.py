"""Gradient descent over the elements of exact groups that carry models to one another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from transfuse.align.aligned import Aligned
from transfuse.align.latents import Latents, movable
from transfuse.align.objective import Objective
from transfuse.augment import varied
from transfuse.batch import Batch, answers, held_out
from transfuse.choices import Learning
from transfuse.errors import NOTHING_SAID, DataError, SpecError
from transfuse.merge.apply import carry_all
from transfuse.merge.mean import mean
from transfuse.network.layout import close_tensors
from transfuse.network.model import declaration, has_scores, logits, predict
from transfuse.ranks import here
from transfuse.trust import Believe, even

NEARNESS = 0.2  # weights are drawn up to this share from the wanted ones: t between 0.4 and 0.6 for two equal ones
EVERY = 25  # steps between two looks at held-out samples
PATIENCE = 8  # looks without a better one, after which it ends


@dataclass(frozen=True)
class Course:
    """How learning went.

    Attributes:
        excess: held-out loss of the merged model over the mean of the parents' own, before and after every so many
            steps: the barrier at the middle.
        steps: taken; `best`: of them, those up to the maps that were kept.
    """

    excess: tuple[float, ...]
    steps: int
    best: int


class Descent:
    """Adam over the latents of all carried models together."""

    def __init__(
        self, parents: Sequence[PreTrainedModel], alignments: Sequence[Aligned], weights: Sequence[float],
        batches: Sequence[Batch], options: Learning, believe: Believe = even, seed: int = 0,
    ) -> None:  # fmt: skip
        """
        Args:
            parents: the models, the anchor first; an alignment for each of the others.
            batches: calibration samples; labels are looked at only if they are the objective.

        Raises:
            DataError: there are fewer than two samples.
            SpecError: the models have no head, so that nothing is said that could be compared.
        """
        self.parents, self.alignments, self.weights, self.options = parents, alignments, weights, options
        self.objective = Objective(parents, weights, options, believe)
        self.generator = torch.Generator().manual_seed(seed)
        asking = [batch for batch in batches if "labels" not in batch or len(answers(batch))]
        if batches and not asking:
            raise DataError(NOTHING_SAID)
        self.fit, self.held = held_out(asking)
        if not self.fit or not self.held:
            raise DataError("learning maps needs samples to learn from and others to choose by; give two or more")
        if not has_scores(parents[0]):
            raise SpecError(f"{type(parents[0]).__name__} has no head to learn maps by; choose align exact")
        self.stored, self.names = declaration(parents[0]), _once_each(parents[0])
        spaces = [
            {name: space for name, space in each.spec.spaces().items() if movable(space)} for each in alignments
        ]  # fmt: skip
        self.latents = [Latents(each, parents[0].device) for each in spaces]
        every = [parameter for latents in self.latents for parameter in latents.parameters()]
        self.adam = torch.optim.Adam(every, lr=options.learning_rate)
        self.pace = torch.optim.lr_scheduler.CosineAnnealingLR(self.adam, options.steps)
        self.base = self._of_parents()
        self.steps, self.looks = 0, [self.look()]
        self.kept = self._copy()

    @property
    def goes_on(self) -> bool:
        """Whether another step may help."""
        best = self.looks.index(min(self.looks))
        return self.steps < self.options.steps and len(self.looks) - 1 - best < PATIENCE

    def step(self) -> None:
        """One step of Adam, and now and then a look at held-out samples."""
        near = [weight * (1 + NEARNESS * (2 * self._random() - 1)) for weight in self.weights]
        batch = self._drawn()
        merged = self._merged([weight / sum(near) for weight in near])
        loss = cross_entropy(merged(batch), self.objective.wanted(batch))
        self.adam.zero_grad()
        loss.backward()
        self._average()
        self.adam.step()
        self.pace.step()
        self.steps += 1
        if self.steps % EVERY == 0 or self.steps == self.options.steps:
            self.looks.append(self.look())
            if self.looks[-1] < min(self.looks[:-1]):
                self.kept = self._copy()

    def _average(self) -> None:
        """Over all processes, each of which drew samples of its own."""
        ranks = here()
        every = [each.grad for latents in self.latents for each in latents.parameters() if each.grad is not None]
        if ranks.count > 1:
            for own, total in zip(every, ranks.total(every), strict=True):
                own.copy_(total / ranks.count)

    def _merged(self, weights: Sequence[float]) -> Callable[[Batch], Tensor]:
        """What the model between the carried ones, with these weights, says of a batch."""
        pairs = zip(self.alignments, self.latents, strict=True)
        carried = [carry_all(each.spec, each.carried, latents.soft()) for each, latents in pairs]
        closed = close_tensors(self.stored, mean([self.alignments[0].anchor, *carried], weights))
        merged = _Holding(self.parents[0], {name: closed[name] for name in self.names})
        return partial(logits, merged, head=self.parents[0].get_output_embeddings())

    @torch.no_grad()
    def look(self) -> float:
        """Held-out loss of the merged model over the parents' own."""
        return self._held_loss(self._merged(self.weights)) - self.base

    @torch.no_grad()
    def _of_parents(self) -> float:
        """The weighted mean of the parents' held-out losses."""
        pairs = zip(self.weights, self.parents, strict=True)
        return sum(weight * self._held_loss(partial(predict, parent)) for weight, parent in pairs)

    def _held_loss(self, say: Callable[[Batch], Tensor]) -> float:
        """How far what is said is from what should be, per answer that is asked for."""
        total, count = 0.0, 0
        for batch in self.held:
            wanted = self.objective.wanted(batch)
            total += len(wanted) * float(cross_entropy(say(batch), wanted))
            count += len(wanted)
        return total / count

    def best(self) -> tuple[list[Aligned], Course]:
        """The models carried by the latents that were best on held-out samples."""
        for latents, kept in zip(self.latents, self.kept, strict=True):
            latents.load_state_dict(kept)
        pairs = zip(self.alignments, self.latents, strict=True)
        found = [replace(each, carried=_carried(each, latents)) for each, latents in pairs]
        best = min(self.looks.index(min(self.looks)) * EVERY, self.steps)
        return found, Course(tuple(self.looks), self.steps, best)

    def state_dict(self) -> dict[str, Any]:
        """All that a run needs to go on."""
        return {
            "latents": self._copy(), "kept": self.kept, "adam": self.adam.state_dict(), "pace": self.pace.state_dict(),
            "steps": self.steps, "looks": self.looks, "generator": self.generator.get_state(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for latents, values in zip(self.latents, state["latents"], strict=True):
            latents.load_state_dict(values)
        self.adam.load_state_dict(state["adam"])
        self.pace.load_state_dict(state["pace"])
        self.steps, self.looks, self.kept = state["steps"], state["looks"], state["kept"]
        self.generator.set_state(state["generator"])

    def _copy(self) -> list[dict[str, Tensor]]:
        return [{name: each.clone() for name, each in latents.state_dict().items()} for latents in self.latents]

    def _random(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def _drawn(self) -> Batch:
        ranks = here()
        drawn = torch.randint(len(self.fit), (ranks.count,), generator=self.generator)[ranks.rank]
        batch = self.fit[int(drawn)]
        if self.options.augment == "none":
            return batch
        return {**batch, "pixel_values": varied(batch["pixel_values"], self.options.augment, self.generator)}


def _once_each(model: nn.Module) -> list[str]:
    """One name for every tensor of a model, whatever is tied to it."""
    places = {values.data_ptr(): name for name, values in reversed(model.state_dict().items())}
    return list(places.values())


class _Holding(nn.Module):
    """A model as it would be with other tensors, which may carry gradients."""

    def __init__(self, model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.call = partial(functional_call, model, dict(tensors), ())

    def forward(self, **inputs: Tensor) -> Any:
        """What it answers."""
        return self.call(inputs)


def _carried(aligned: Aligned, latents: Latents) -> dict[str, Tensor]:
    """In float64, as small errors of many maps add up."""
    precise = {name: values.double() for name, values in aligned.carried.items()}
    found = carry_all(aligned.spec, precise, latents.hard())
    return {name: values.to(aligned.carried[name]) for name, values in found.items()}
