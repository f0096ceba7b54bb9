"""Maps learned by gradient descent: elements of every exact group, moved until the models meet on common ground.

Starts from an alignment, and minimises the loss of networks near the middle between the aligned models: how far they
are from the parents' mean answer, or from labels (Theus et al., 2506.22712, who know labels only). Every step stays
within the exact groups, so each carried model still computes what it did, and what is merged is an ordinary
checkpoint of its architecture.

Moving the anchor too would add nothing: a group acts linearly on the tensors, so that an element common to all models
carries the merged one along without changing what it computes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from transformers import PreTrainedModel

from transfuse.alignment.exact.parametrizations import GroupParameters, movable
from transfuse.alignment.interface import Alignment
from transfuse.alignment.transform import transform_all
from transfuse.base.batch import Batch
from transfuse.config.literals import LearningOptions
from transfuse.distillation.loop import History, LogitsFn, TrainingLoop, split_with_answers, train
from transfuse.distillation.teacher_weighting import WeightingFn, uniform
from transfuse.merging.mean import mean
from transfuse.network.layout import join_fused
from transfuse.network.model import declaration, logits

NEARNESS = 0.2  # weights are drawn up to this share from the wanted ones: t between 0.4 and 0.6 for two equal ones


def refine_maps(
    parents: Sequence[PreTrainedModel],
    alignments: Sequence[Alignment],
    weights: Sequence[float],
    batches: Sequence[Batch],
    options: LearningOptions,
    believe: WeightingFn = uniform,
    seed: int = 0,
    state: Path | None = None,
    each: Callable[[Sequence[int], Callable[[], str]], Iterable[int]] = lambda steps, status: steps,
) -> tuple[list[Alignment], History]:
    """The same models, carried on by learned elements of their groups; what is best on held-out samples is kept.

    Args:
        parents: the models, the anchor first; an alignment for each of the others.
        batches: calibration samples; labels are looked at only if they are the objective.
        state: the file in which a run leaves what it needs to go on, and finds what one before it left.
        each: shows progress.

    Raises:
        DataError: there are fewer than two samples.
        SpecError: the models have no head, so that nothing is said that could be compared.
    """
    halves = split_with_answers(parents[0], batches, "maps")
    descent = GroupDescent(parents, alignments, weights, halves, options, believe, seed)
    course = train(descent, "maps", state, each)
    return descent.carried(), course


class GroupDescent(TrainingLoop):
    """Over the latents of all carried models together."""

    patience = 8

    def __init__(
        self,
        parents: Sequence[PreTrainedModel],
        alignments: Sequence[Alignment],
        weights: Sequence[float],
        halves: tuple[Sequence[Batch], Sequence[Batch]],
        options: LearningOptions,
        believe: WeightingFn,
        seed: int,
    ) -> None:
        self.alignments = alignments
        self.stored, self.names = declaration(parents[0]), _once_each(parents[0])
        spaces = [{name: space for name, space in each.spec.spaces().items() if movable(space)} for each in alignments]
        self.latents = [GroupParameters(each, parents[0].device) for each in spaces]
        every = [parameter for latents in self.latents for parameter in latents.parameters()]
        super().__init__(
            self.latents, [Adam(every, lr=options.learning_rate)], parents, weights, halves, options, believe, seed
        )

    def loss(self, batch: Batch) -> Tensor:
        near = [weight * (1 + NEARNESS * (2 * self._random() - 1)) for weight in self.weights]
        merged = self._merged([weight / sum(near) for weight in near])
        return cross_entropy(merged(batch), self.objective.wanted(batch))

    def said(self) -> LogitsFn:
        return self._merged(self.weights)

    def _merged(self, weights: Sequence[float]) -> LogitsFn:
        """What the model between the carried ones, with these weights, says of a batch."""
        pairs = zip(self.alignments, self.latents, strict=True)
        carried = [transform_all(each.spec, each.carried, latents.soft()) for each, latents in pairs]
        closed = join_fused(self.stored, mean([self.alignments[0].anchor, *carried], weights))
        merged = _Holding(self.parents[0], {name: closed[name] for name in self.names})
        return partial(logits, merged, head=self.parents[0].get_output_embeddings())

    def carried(self) -> list[Alignment]:
        """The models carried by the latents as they are."""
        pairs = zip(self.alignments, self.latents, strict=True)
        return [replace(each, carried=_carried(each, latents)) for each, latents in pairs]

    def _random(self) -> float:
        return float(torch.rand((), generator=self.generator))


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


def _carried(aligned: Alignment, latents: GroupParameters) -> dict[str, Tensor]:
    """In float64, as small errors of many maps add up."""
    precise = {name: values.double() for name, values in aligned.carried.items()}
    found = transform_all(aligned.spec, precise, latents.hard())
    return {name: values.to(aligned.carried[name]) for name, values in found.items()}
