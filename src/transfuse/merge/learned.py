"""Weights learned by gradient descent: the fused model computes what its parents do, on the way and in the end.

What each block puts into the residual stream is drawn to the mean of what the aligned parents put there, and what is
said in the end to the mean of what they say, or to labels. Alignment is what gives the first of these a meaning, and it
is worth most: a class is one number for each sample, a stream thousands. (FitNets, Romero et al., 1412.6550, learn from
one teacher's layers, through maps learned for it; here the teachers' basis is the student's.) The last block is judged
by what is said alone: it need not put out what its parents do, as long as its head says it.

Starts from fitted layers (`least_squares`). Every tensor moves by a share of its own size, so that one rate does for
all widths. Nothing of this is worse, on held-out samples, than what it started from: that is kept otherwise.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from transfuse.batch import Batch, answers, cut, places
from transfuse.choices import Learning
from transfuse.descent import Course, Descent, Say, descend
from transfuse.merge.steps import hooked, steps
from transfuse.network.model import logits
from transfuse.trust import Believe, Scores, even, mixed, weighed

STREAMS = 10.0  # how much the relative squared error of the streams counts against a nat of what is said
SAMPLES = 25  # of a step, at most
FITTED = 2000  # samples that layers are fitted to first, at most: more would cost more than the steps they save
LEAST = 0.01  # the size that a tensor is taken to have at least: shifts begin at zero

Seen = tuple[Scores, list[Tensor]]  # what a model says of a batch, and what its blocks put out


def learn_weights(
    fused: PreTrainedModel, parents: Sequence[PreTrainedModel], weights: Sequence[float],
    halves: tuple[Sequence[Batch], Sequence[Batch]], options: Learning, believe: Believe = even,
    leave: Collection[str] = (), seed: int = 0, state: Path | None = None,
    each: Callable[[Sequence[int], Callable[[], str]], Iterable[int]] = lambda steps, status: steps,
) -> Course:  # fmt: skip
    """Move the weights of `fused` in place; those that were best on the second half of the samples are kept.

    Args:
        fused: in the parents' basis; `parents`: all in one basis and shape; `weights` sum to one.
        halves: samples to learn from, and samples to choose by, which `fused` was not fitted to.
        leave: names of modules that stay as they are.
        state: the file in which a run leaves what it needs to go on, and finds what one before it left.
        each: shows progress.
    """
    descent = Lesson(fused, parents, weights, halves, options, believe, leave, seed)
    return descend(descent, "weights", state, each)


class Lesson(Descent):
    """Over the weights of a fused model."""

    slows = 0.125

    def __init__(
        self, fused: PreTrainedModel, parents: Sequence[PreTrainedModel], weights: Sequence[float],
        halves: tuple[Sequence[Batch], Sequence[Batch]], options: Learning, believe: Believe, leave: Collection[str],
        seed: int,
    ) -> None:  # fmt: skip
        self.fused, self.believe = fused, believe
        fit = [piece for batch in halves[0] for piece in cut(batch, SAMPLES)]
        blocks = [step for step in steps(fused, fit[0]) if step.whole]
        last = {step.stack: step for step in blocks}
        self.watched = [step.name for step in blocks if step != last[step.stack]]
        still = {id(each) for name in leave for each in fused.get_submodule(name).parameters()}
        moving = [each for each in fused.parameters() if id(each) not in still]
        groups = [{"params": [each], "lr": options.learning_rate * _size(each)} for each in moving]
        super().__init__([fused], groups, parents, weights, (fit, halves[1]), options, believe, seed)

    def loss(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            theirs = [self._seen(parent, batch) for parent in self.parents]
        scores, streams = [said for said, _ in theirs], zip(*(found for _, found in theirs), strict=True)
        shares = self.believe(scores, self.weights, batch).to(scores[0])
        labels = self.options.objective == "labels"
        said, mine = self._seen(self.fused, batch)
        found = cross_entropy(said, answers(batch) if labels else mixed(scores, shares, batch))
        errors = [_error(own, each, shares, batch) for own, each in zip(mine, streams, strict=True)]
        return found + STREAMS * torch.stack(errors).mean() if errors else found

    def said(self) -> Say:
        return partial(logits, self.fused, head=self.fused.get_output_embeddings())

    def _seen(self, model: PreTrainedModel, batch: Batch) -> Seen:
        found: list[Tensor] = []

        def keep(block: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            found.append(output[0] if isinstance(output, tuple) else output)

        with hooked([model.get_submodule(name) for name in self.watched], keep):
            said = logits(model, batch, model.get_output_embeddings())
        return said, found


def _size(tensor: Tensor) -> float:
    """Root mean square."""
    return max(float(tensor.detach().square().mean().sqrt()), LEAST)


def _error(
    own: Tensor, theirs: Sequence[Tensor], shares: Float[Tensor, "model sample"], batch: Batch
) -> Float[Tensor, ""]:
    """Squared error to the mean of what the parents put out, over the variance of that."""
    sample, _ = places(own, batch)
    found, wanted = own.flatten(0, -2), weighed(shares[:, sample], [each.flatten(0, -2) for each in theirs])
    mask = batch.get("attention_mask")
    if mask is not None and mask.shape == own.shape[:-1]:
        there = mask.flatten().bool()
        found, wanted = found[there], wanted[there]
    return (found - wanted).square().sum() / (wanted - wanted.mean(0)).square().sum()
