"""Distillation of several parents into the weights of a fused model.

The fused model is trained to match two things: the mean of the parents' residual streams after each block but the last,
and the mean of their predictions (or the labels), by the loss of their kind (`network.output_losses`). The parents are
aligned, so their streams share one basis and can be averaged. The streams are the richer signal, with thousands of
numbers per sample. FitNets (Romero et al., 1412.6550) match one teacher's layers through learned maps. Here teachers
and student share a basis, so no map is needed. The last block is trained by the predictions alone, because its output
may differ as long as the predictions agree.

Training starts from fitted layers (`least_squares`). Every tensor has a learning rate relative to its own size, so one
rate suits all widths. Muon trains the matrices of the blocks, because it gets further than Adam in half the steps
(docs/log.md). Adam trains everything else. The result is never worse on the validation samples than the start, because
the best weights are restored.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from transfuse.activations.execution_order import block_names, forward_hooks
from transfuse.base.batch import (
    Batch,
    batch_bytes,
    batch_size,
    has_targets,
    is_labeled_per_sample,
    split_batch,
    without_labels,
)
from transfuse.base.budget import cache_bytes, samples_at_once
from transfuse.config.literals import LearningOptions
from transfuse.distillation.image_variants import ImageVariants
from transfuse.distillation.loop import TrainingLoop
from transfuse.distillation.optimizers import block_optimizers
from transfuse.distillation.recompute import needs_recomputation, recomputed
from transfuse.distillation.sliced_loss import mean_loss
from transfuse.distillation.streams import mean_rows, relative_error, unpadded_rows
from transfuse.distillation.target_cache import TargetCache
from transfuse.distillation.teacher_weighting import Shares, WeightingFn, by_likelihood, uniform
from transfuse.distillation.text_variants import TextVariants, is_masked
from transfuse.distillation.validation import AnswersFn, BatchSplit
from transfuse.distillation.variants import Mixture, Variants
from transfuse.merging.training.parent_means import ParentMeans
from transfuse.network.output_losses import OutputLoss, output_loss
from transfuse.network.outputs import AnswerStates
from transfuse.network.precision import compute_dtype, mixed_dtype, mixed_precision
from transfuse.network.unsaved import freeze_unsaved

STREAM_WEIGHT = 10.0  # weight of the streams' relative squared error, where one nat of cross-entropy has weight 1
LEARNING_RATE = 0.01  # unless it is given, for images
TEXT_LEARNING_RATE = 0.02  # the same for texts, whose many answers allow larger steps
MAX_TEXTS = 25  # largest number of texts in a batch
MIN_ANSWERS = 100  # smallest number of answers in a step; an image has one answer, a text has many


class WeightDistillation(TrainingLoop):
    """Train the weights of a fused model in place."""

    lr_patience = 0.125
    answer_weight = 1.0  # of the loss of the predictions

    def __init__(
        self,
        fused: PreTrainedModel,
        parents: Sequence[PreTrainedModel],
        weights: Sequence[float],
        batches: BatchSplit,
        options: LearningOptions,
        weighting: WeightingFn = uniform,
        untouched: Collection[str] = (),
        seed: int = 0,
        streams: bool = True,
    ) -> None:
        """Validate the untrained weights.

        Args:
            fused: the model to train, in the parents' basis.
            parents: the teachers, all in one basis and of one shape.
            weights: one weight per parent. They sum to one.
            batches: training and validation batches. `fused` must not have been fitted to the latter.
            weighting: method that weights the parents per sample.
            untouched: names of modules that are not trained.
            streams: whether the parents' streams are matched, and not only their predictions.
        """
        self.fused = freeze_unsaved(fused.requires_grad_(True))  # a copy of a model that the user may have frozen
        self.untouched = untouched
        train, validation = batches
        samples_per_step = _samples_per_step(train[0])
        prepared = samples_at_once(fused, train[0], samples_per_step, gradients=True)  # limited by their logits
        fitting = samples_at_once(fused, without_labels(train[0]), samples_per_step, gradients=True)
        train = [part for batch in train for part in split_batch(batch, fitting) if has_targets(part)]
        largest = max(prepared, *map(batch_size, train))
        self.recomputes = needs_recomputation(fused, train)
        self.block_names, matched = block_names(fused, train[0])
        self.matched_names = matched if streams else []
        self.matches_streams = True  # those of `matched_names`
        text = not is_labeled_per_sample(train[0])
        self.learning_rate = options.learning_rate or (TEXT_LEARNING_RATE if text else LEARNING_RATE)
        optimizers = block_optimizers(fused, untouched, self.learning_rate)
        super().__init__(
            [fused], optimizers, parents, weights, (train, validation), options, weighting, seed, self._loss(parents[0])
        )
        self.drawn: tuple[Batch, Batch, Mixture] | None = None  # the last variant that is one, and what it is made of
        self.cache = TargetCache(train, cache_bytes("parent activations"), fused.device)
        first = self.cache.get_or_compute(train[0], self._parent_means)
        self.batches_per_step = max(ceil(MIN_ANSWERS / len(first.targets)), ceil(samples_per_step / largest))
        self.variants = self._variants(train, first.nbytes, seed)

    def _loss(self, parent: PreTrainedModel) -> OutputLoss:
        """Return the loss of the outputs of a model and its parents."""
        return output_loss(parent, in_one_basis=True)

    def start_from(self, model: PreTrainedModel | None, streams: bool = True) -> None:
        """Begin anew from the weights of a model of the same shape, or from the current ones.

        Args:
            streams: whether the parents' streams are matched, and not only their predictions.
        """
        if model is not None:
            self.fused.load_state_dict(model.state_dict())
        self.matches_streams = streams
        self.restart(block_optimizers(self.fused, self.untouched, self.learning_rate))

    def restart(self, optimizers: Sequence[Optimizer]) -> None:
        super().restart(optimizers)
        self.draws = [0] * len(self.train_batches)  # how often each batch has been drawn

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"draws": list(self.draws), "matches_streams": self.matches_streams}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.load_draws(state["draws"])
        self.matches_streams = state["matches_streams"]

    def load_draws(self, draws: Sequence[int]) -> None:
        """Resume the variants of the batches. Where memory has cut the samples into other batches, all begin anew."""
        if len(draws) == len(self.draws):
            self.draws = list(draws)

    def _variants(self, train: Sequence[Batch], target_bytes: int, seed: int) -> Variants | None:
        """Return the variants of the training batches; None if there are none, or they are not wanted."""
        if self.options.augment != "auto" or self.targets.from_labels:
            return None
        bytes_of_all = (target_bytes + batch_bytes(train[0])) * len(train)
        kept = max(1, cache_bytes("parent activations") // bytes_of_all)
        if is_masked(self.fused, train[0]):
            return TextVariants(train, kept, self.fused.config.vocab_size, self._probabilities, seed)
        mixes = self.targets.weighting is not by_likelihood
        return ImageVariants(train, kept, seed, mixes) if train[0].keys() <= {"pixel_values", "labels"} else None

    def _training_batch(self, index: int) -> Batch:
        """Return the given batch, and then its variants in turn.

        Batches do not start with the same variant, so that in each later round, a few are as they were given.
        """
        if self.variants is None:
            return super()._training_batch(index)
        number = self.draws[index] + index if self.draws[index] else 0
        batch, mixture = self.variants.variant(index, number), self.variants.mixture(index, number)
        self.drawn = (batch, self.train_batches[index], mixture) if mixture else None
        self.draws[index] += 1
        if self.variants.kept > 1:
            self.cache.add(batch)
        return batch

    def _probabilities(self, batch: Batch) -> Iterator[Float[Tensor, "answer cls"]]:
        """Yield the parents' mean probabilities for the answers of a batch, in slices."""
        targets = self.cache.get_or_compute(batch, self._parent_means).targets
        for rows in targets.slices():
            with mixed_precision(self.fused.device):
                probabilities = targets[rows]
            yield probabilities

    def loss(self, batch: Batch) -> Tensor:
        means = self.cache.get_or_compute(batch, self._parent_means)
        blocks = [self.fused.get_submodule(name) for name in self.block_names]
        with recomputed(self.fused, blocks) if self.recomputes else nullcontext():
            answers, outputs = self._forward(self.fused, batch, self.matched_names if self.matches_streams else [])
        with mixed_precision(self.fused.device):
            trained = [parameter for group in self._parameter_groups() for parameter in group["params"]]
            loss = mean_loss(answers, means.targets, trained, self.output_loss)
            prediction_loss = self.answer_weight * loss / self.validation.scale
        errors = [
            relative_error(unpadded_rows(output, batch, name), stream)
            for output, stream, name in zip(outputs, means.streams, self.matched_names, strict=self.matches_streams)
        ]
        return prediction_loss + STREAM_WEIGHT * torch.stack(errors).mean() if errors else prediction_loss

    def answers_fn(self) -> AnswersFn:
        return partial(self.output_loss.answers, self.fused)

    @torch.no_grad()
    def _parent_means(self, batch: Batch) -> ParentMeans:
        answers, outputs = zip(*(self._parent_outputs(parent, batch) for parent in self.parents), strict=True)
        with mixed_precision(self.fused.device):
            targets, shares = self.targets.of_answers(answers, batch, self._mixed_shares(batch))
        by_block = zip(zip(*outputs, strict=True), self.matched_names, strict=True)
        streams = [mean_rows(block, shares, batch, name) for block, name in by_block]
        if self.fused.dtype is not torch.float64:  # in half the memory, twice as many are kept
            streams = [stream.to(mixed_dtype(stream.device)) for stream in streams]
        return ParentMeans(targets, streams)

    def _mixed_shares(self, batch: Batch) -> Shares | None:
        """Return the weights of the parents for a mixture of given samples; None for any other batch."""
        if self.drawn is None or self.drawn[0] is not batch:
            return None
        _, given, mixture = self.drawn
        return mixture.of(self.targets.shares_of(given))

    def _parent_outputs(self, parent: PreTrainedModel, batch: Batch) -> tuple[AnswerStates, list[Tensor]]:
        """Return what the head of a parent reads, and the outputs of its blocks in the basis of the fused model."""
        return self._forward(parent, batch, self.matched_names)

    def _forward(
        self, model: PreTrainedModel, batch: Batch, block_names: Sequence[str]
    ) -> tuple[AnswerStates, list[Tensor]]:
        """Return what the head of a model reads, and the outputs of some of its blocks."""
        outputs: list[Tensor] = []

        def append_output(block: nn.Module, inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            outputs.append(output[0] if isinstance(output, tuple) else output)

        blocks = [model.get_submodule(name) for name in block_names]
        with forward_hooks(blocks, append_output), mixed_precision(model.device):
            answers = self.output_loss.answers(model, batch)
        return answers, [values.to(compute_dtype(values.dtype)) for values in outputs]


def _samples_per_step(batch: Batch) -> int:
    """Return how many samples to process at once, if memory suffices: a whole step of samples with one answer each."""
    return MIN_ANSWERS if is_labeled_per_sample(batch) else MAX_TEXTS
