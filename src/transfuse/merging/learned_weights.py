"""Weights learned by gradient descent: the fused model computes what its parents do, on the way and in the end.

What each block puts into the residual stream is drawn to the mean of what the aligned parents put there, and what is
said in the end to the mean of what they say, or to labels. Alignment is what gives the first of these a meaning, and it
is worth most: a class is one number for each sample, a stream thousands. (FitNets, Romero et al., 1412.6550, learn from
one teacher's layers, through maps learned for it; here the teachers' basis is the student's.) The last block is judged
by what is said alone: it need not put out what its parents do, as long as its head says it.

Starts from fitted layers (`least_squares`). Every tensor moves by a share of its own size, so that one rate does for
all widths; matrices of blocks by Muon, which gets further in half the steps (docs/log.md), all else by Adam. Nothing
of this is worse, on held-out samples, than what it started from: that is kept otherwise.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from transformers import PreTrainedModel

from transfuse.activations.execution_order import block_lists, execution_steps, forward_hooks
from transfuse.base.batch import Batch, cut, has_answers, labels_of, places, single
from transfuse.base.batch_cache import BatchCache
from transfuse.base.budget import samples_at_once
from transfuse.config.literals import LearningOptions
from transfuse.distillation.loop import History, LogitsFn, TrainingLoop, train
from transfuse.distillation.muon import Muon
from transfuse.distillation.teacher_weighting import (
    Logits,
    Shares,
    WeightingFn,
    uniform,
    weighted_probabilities,
    weighted_rows,
)
from transfuse.network.model import logits

STREAM_WEIGHT = 10.0  # how much the relative squared error of the streams counts against a nat of what is said
MAX_SAMPLES = 25  # seen at a time, at most, but see `_at_once`
MIN_ANSWERS = 100  # of a step, at least: of images, one each, it takes more of them than of texts
MAX_FITTED_SAMPLES = (
    2000  # samples that layers are fitted to first, at most: more would cost more than the steps they save
)
MIN_SIZE = 0.01  # the size that a tensor is taken to have at least: shifts begin at zero
CACHE_BYTES = 2**30  # bytes that may be remembered of what parents show of samples that come again as they were

Seen = tuple[Logits, list[Tensor]]  # what a model says of a batch, and what its blocks put out


@dataclass(frozen=True)
class Target:
    """What the parents do with a batch: the labels or what they say on average, and the mean of what blocks put out."""

    said: Tensor
    streams: list[Float[Tensor, "row unit"]]

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in [self.said, *self.streams])


def learn_weights(
    fused: PreTrainedModel,
    parents: Sequence[PreTrainedModel],
    weights: Sequence[float],
    halves: tuple[Sequence[Batch], Sequence[Batch]],
    options: LearningOptions,
    believe: WeightingFn = uniform,
    leave: Collection[str] = (),
    seed: int = 0,
    state: Path | None = None,
    each: Callable[[Sequence[int], Callable[[], str]], Iterable[int]] = lambda steps, status: steps,
) -> History:
    """Move the weights of `fused` in place; those that were best on the second half of the samples are kept.

    Args:
        fused: in the parents' basis; `parents`: all in one basis and shape; `weights` sum to one.
        halves: samples to learn from, and samples to choose by, which `fused` was not fitted to.
        leave: names of modules that stay as they are.
        state: the file in which a run leaves what it needs to go on, and finds what one before it left.
        each: shows progress.
    """
    descent = WeightDistillation(fused, parents, weights, halves, options, believe, leave, seed)
    return train(descent, "weights", state, each)


class WeightDistillation(TrainingLoop):
    """Over the weights of a fused model."""

    slows = 0.125

    def __init__(
        self,
        fused: PreTrainedModel,
        parents: Sequence[PreTrainedModel],
        weights: Sequence[float],
        halves: tuple[Sequence[Batch], Sequence[Batch]],
        options: LearningOptions,
        believe: WeightingFn,
        leave: Collection[str],
        seed: int,
    ) -> None:
        self.fused, self.believe = fused, believe
        due = _at_once(halves[0][0])
        count = samples_at_once(fused, halves[0][0], due, gradients=True)
        fit = [piece for batch in halves[0] for piece in cut(batch, count) if has_answers(piece)]
        blocks = [step for step in execution_steps(fused, fit[0]) if step.whole]
        last = {step.stack: step for step in blocks}
        self.watched = [step.name for step in blocks if step != last[step.stack]]
        still = {id(each) for name in leave for each in fused.get_submodule(name).parameters()}
        moving = [each for each in fused.parameters() if id(each) not in still]
        inside = _matrices(fused)
        kinds = {
            Muon: [each for each in moving if id(each) in inside],
            Adam: [each for each in moving if id(each) not in inside],
        }
        optimizers = [
            kind([{"params": [each], "lr": options.learning_rate * _size(each)} for each in found])
            for kind, found in kinds.items()
            if found
        ]
        super().__init__([fused], optimizers, parents, weights, (fit, halves[1]), options, believe, seed)
        self.memory = BatchCache(fit, CACHE_BYTES)
        self.draws = max(
            ceil(MIN_ANSWERS / len(self.memory.get_or_compute(fit[0], self._target).said)), ceil(due / count)
        )

    def loss(self, batch: Batch) -> Tensor:
        target = self.memory.get_or_compute(batch, self._target)
        said, mine = self._seen(self.fused, batch)
        found = cross_entropy(said, target.said)
        errors = [_error(_rows(own, batch), each) for own, each in zip(mine, target.streams, strict=True)]
        return found + STREAM_WEIGHT * torch.stack(errors).mean() if errors else found

    @torch.no_grad()
    def _target(self, batch: Batch) -> Target:
        theirs = [self._seen(parent, batch) for parent in self.parents]
        scores, streams = [said for said, _ in theirs], zip(*(found for _, found in theirs), strict=True)
        shares = self.believe(scores, self.weights, batch).to(scores[0])
        said = labels_of(batch) if self.objective.labels else weighted_probabilities(scores, shares, batch)
        return Target(said, [_mean(each, shares, batch) for each in streams])

    def said(self) -> LogitsFn:
        return partial(logits, self.fused, head=self.fused.get_output_embeddings())

    def _seen(self, model: PreTrainedModel, batch: Batch) -> Seen:
        found: list[Tensor] = []

        def keep(block: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)

        with forward_hooks([model.get_submodule(name) for name in self.watched], keep):
            said = logits(model, batch, model.get_output_embeddings())
        return said, found


def _at_once(batch: Batch) -> int:
    """Samples; a GPU, which takes hardly longer for more, sees a whole step of those that ask for one answer each."""
    return MIN_ANSWERS if single(batch) and next(iter(batch.values())).is_cuda else MAX_SAMPLES


def _matrices(model: PreTrainedModel) -> set[int]:
    """By `id`: those of the blocks that something is multiplied with."""
    inside = [module for found in block_lists(model).values() for block in found for module in block.modules()]
    multiplied = [module for module in inside if not isinstance(module, nn.Embedding)]
    return {id(each) for module in multiplied for each in module.parameters(recurse=False) if each.ndim == 2}


def _size(tensor: Tensor) -> float:
    """Root mean square."""
    return max(float(tensor.detach().square().mean().sqrt()), MIN_SIZE)


def _error(own: Float[Tensor, "row unit"], wanted: Float[Tensor, "row unit"]) -> Float[Tensor, ""]:
    """Squared error over the variance of what is wanted."""
    return (own - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()


def _mean(theirs: Sequence[Tensor], shares: Shares, batch: Batch) -> Float[Tensor, "row unit"]:
    """Of what the parents put out, each as far as it is believed."""
    sample, _ = places(theirs[0], batch)
    return weighted_rows(shares[:, sample[_there(theirs[0], batch)]], [_rows(each, batch) for each in theirs])


def _rows(values: Float[Tensor, "*place unit"], batch: Batch) -> Float[Tensor, "row unit"]:
    """Without those of padding."""
    return values.flatten(0, -2)[_there(values, batch)]


def _there(values: Float[Tensor, "*place unit"], batch: Batch) -> slice | Bool[Tensor, " place"]:
    """Where there is no padding."""
    mask = batch.get("attention_mask")
    return mask.flatten().bool() if mask is not None and mask.shape == values.shape[:-1] else slice(None)
