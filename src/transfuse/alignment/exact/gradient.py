"""Maps refined by gradient descent within the exact groups: `align: learned`.

Descent starts from an alignment. It minimizes the loss of models near the mean of the aligned models: their distance
from the parents' ensemble, or from the labels. Theus et al. (2506.22712) use only labels. Each step stays within the
exact groups, so each aligned model keeps its function, and the merged model is an ordinary checkpoint.

Moving the anchor too would gain nothing. A group acts linearly on the tensors, so an element that is common to all
models moves the merged model in the same way, without changing its function.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Adam
from transformers import PreTrainedModel

from transfuse.alignment.exact.parametrizations import GroupParameters, is_trainable
from transfuse.alignment.interface import Alignment
from transfuse.alignment.transform import transform_all
from transfuse.base.batch import Batch
from transfuse.config.literals import LearningOptions
from transfuse.distillation.history import History, TrackFn, untracked
from transfuse.distillation.loop import TrainingLoop
from transfuse.distillation.teacher_weighting import WeightingFn, uniform
from transfuse.distillation.validation import AnswersFn, BatchSplit, split_with_answers
from transfuse.merging.mean import mean
from transfuse.network.layout import join_fused
from transfuse.network.model import declaration
from transfuse.network.outputs import given_logits, logits

STEPS = 500  # at most, unless they are given
LEARNING_RATE = 0.01  # unless it is given
WEIGHT_NOISE = 0.2  # relative noise of the merging weights in training: for two equal weights, between 0.4 and 0.6


def refine_maps(
    parents: Sequence[PreTrainedModel],
    alignments: Sequence[Alignment],
    weights: Sequence[float],
    batches: Sequence[Batch],
    options: LearningOptions,
    weighting: WeightingFn = uniform,
    seed: int = 0,
    state: Path | None = None,
    track: TrackFn = untracked,
) -> tuple[list[Alignment], History]:
    """Refine alignments by elements of their groups, and return those with the lowest loss on held-out samples.

    Args:
        parents: the models, the anchor first.
        alignments: one for each model after the anchor.
        weights: merging weights of all models. They sum to one.
        batches: calibration samples. Labels are used only if they are the objective.
        options: steps, learning rate and objective.
        weighting: method that weights the parents per sample.
        seed: seed of all random numbers.
        state: file from which an interrupted run is resumed, and to which this run saves its state.
        track: iterates over the steps and displays progress.

    Raises:
        DataError: there are fewer than two samples.
        SpecError: the models have no head, and so no predictions to compare.
    """
    options = replace(options, steps=options.steps or STEPS)
    split = split_with_answers(parents[0], batches, "maps")
    descent = GroupDescent(parents, alignments, weights, split, options, weighting, seed)
    history = descent.run("maps", state, track)
    return descent.refined(), history


class GroupDescent(TrainingLoop):
    """Train the group elements of all aligned models together."""

    patience = 8

    def __init__(
        self,
        parents: Sequence[PreTrainedModel],
        alignments: Sequence[Alignment],
        weights: Sequence[float],
        batches: BatchSplit,
        options: LearningOptions,
        weighting: WeightingFn,
        seed: int,
    ) -> None:
        self.alignments = alignments
        self.spec = declaration(parents[0])
        self.names = _names_without_ties(parents[0])
        spaces = [alignment.spec.spaces() for alignment in alignments]
        trainable = [{name: space for name, space in named.items() if is_trainable(space)} for named in spaces]
        self.elements = [GroupParameters(named, parents[0].device) for named in trainable]
        parameters = [parameter for elements in self.elements for parameter in elements.parameters()]
        optimizer = Adam(parameters, lr=options.learning_rate or LEARNING_RATE)
        super().__init__(self.elements, [optimizer], parents, weights, batches, options, weighting, seed)

    def loss(self, batch: Batch) -> Tensor:
        noisy = [weight * (1 + WEIGHT_NOISE * (2 * self._random() - 1)) for weight in self.weights]
        merged = self._merged([weight / sum(noisy) for weight in noisy])
        return self.output_loss.losses(merged(batch), self.targets.of_batch(batch)[:]) / self.validation.scale

    def answers_fn(self) -> AnswersFn:
        merged = self._merged(self.weights)
        return lambda batch: given_logits(merged(batch))

    def _merged(self, weights: Sequence[float]) -> Callable[[Batch], Tensor]:
        """Return the logits of the weighted mean of all models, as a function of the batch."""
        pairs = zip(self.alignments, self.elements, strict=True)
        carried = [
            transform_all(alignment.spec, alignment.carried, elements.relaxed()) for alignment, elements in pairs
        ]
        tensors = join_fused(self.spec, mean([self.alignments[0].anchor, *carried], weights))
        merged = _WithTensors(self.parents[0], {name: tensors[name] for name in self.names})
        return partial(logits, merged, head=self.parents[0].get_output_embeddings())

    def refined(self) -> list[Alignment]:
        """Return the alignments, with each model mapped by its current element."""
        pairs = zip(self.alignments, self.elements, strict=True)
        return [replace(alignment, carried=_refined(alignment, elements)) for alignment, elements in pairs]

    def _random(self) -> float:
        return float(torch.rand((), generator=self.order.generator))


def _names_without_ties(model: nn.Module) -> list[str]:
    """Return one name for each tensor of a model, even if several names are tied to it."""
    names = {values.data_ptr(): name for name, values in reversed(model.state_dict().items())}
    return list(names.values())


class _WithTensors(nn.Module):
    """A model with other tensors, through which gradients pass."""

    def __init__(self, model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.call = partial(functional_call, model, dict(tensors), ())

    def forward(self, **inputs: Tensor) -> Any:
        return self.call(inputs)


def _refined(alignment: Alignment, elements: GroupParameters) -> dict[str, Tensor]:
    """Map an aligned model in float64, because the rounding errors of many maps add up."""
    precise = {name: values.double() for name, values in alignment.carried.items()}
    tensors = transform_all(alignment.spec, precise, elements.rounded())
    return {name: values.to(alignment.carried[name]) for name, values in tensors.items()}
