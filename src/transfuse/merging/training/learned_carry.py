"""Training of a carried fine-tune: to do the task as the tuned model does, and to stay the new base elsewhere.

On samples of the task, the model is trained on the predictions of the tuned model, and its streams on what the new base
computes plus the change that tuning made there. On samples to keep, it is trained on the predictions and the streams of
the new base. Every step takes as many samples of both. Streams are left out if the new base has other widths.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.config.literals import KEEP_WEIGHT, LearningOptions
from transfuse.distillation.batch_order import BatchOrder
from transfuse.distillation.streams import mean_rows
from transfuse.distillation.teacher_weighting import same_for_all, uniform
from transfuse.distillation.validation import BatchSplit
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.merging.training.parent_means import ParentMeans


class CarryDistillation(WeightDistillation):
    """Train the weights of a carried model in place."""

    def __init__(
        self,
        carried: PreTrainedModel,
        models: Sequence[PreTrainedModel],
        weights: Sequence[float],
        task: BatchSplit,
        kept: BatchSplit | None,
        options: LearningOptions,
        keeps_answers: bool = True,
        untouched: Collection[str] = (),
        seed: int = 0,
        streams: bool = True,
    ) -> None:
        """
        Args:
            models: the new base, the base and the tuned model, in one basis if `streams`.
            weights: of what each of them computes on samples of the task.
            task: training and validation samples of the task.
            kept: the same of what the new base is to keep; None: there are none.
            keeps_answers: whether the predictions of the new base count on these, beside its streams.
            streams: whether streams are matched, and not only predictions. Without those of the task, those of samples
                to keep would outweigh its predictions.
        """
        self.models = models
        self.stream_weights = weights
        self.keeping: _Keeping | None = None
        if kept is not None:
            self.keeping = _Keeping(carried, models[0], kept, options, keeps_answers, seed, streams)
        super().__init__(carried, models[-1:], [1.0], task, options, uniform, untouched, seed, streams)

    def start_from(self, model: PreTrainedModel | None, streams: bool = True) -> None:
        if self.keeping is not None:
            self.keeping.matches_streams = streams
            self.keeping.restart_drawing()
        super().start_from(model, streams)

    def loss(self, batch: Batch) -> Tensor:
        loss = super().loss(batch)
        return loss if self.keeping is None else loss + KEEP_WEIGHT * self.keeping.next_loss()

    def excess_loss(self) -> float:
        """Return how far the predictions are from those of the tuned model, and of the new base on samples to keep."""
        kept = self.keeping.excess_loss() if self.keeping and self.keeping.keeps_answers else 0.0
        return super().excess_loss() + KEEP_WEIGHT * kept

    def state_dict(self) -> dict[str, Any]:
        kept = {} if self.keeping is None else {"kept": self.keeping.drawing_state()}
        return super().state_dict() | kept

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.keeping is not None:
            self.keeping.load_drawing_state(state["kept"])
            self.keeping.matches_streams = self.matches_streams

    @torch.no_grad()
    def _parent_means(self, batch: Batch) -> ParentMeans:
        models = self.models if self.matched_names else self.models[-1:]  # streams need all, predictions the last
        answers, outputs = zip(*(self._parent_outputs(model, batch) for model in models), strict=True)
        targets, _ = self.targets.of_answers(answers[-1:], batch)
        shares = same_for_all(self.stream_weights, batch)
        by_block = zip(zip(*outputs, strict=True), self.matched_names, strict=True)
        return ParentMeans(targets, [mean_rows(block, shares, batch, name) for block, name in by_block])


class _Keeping(WeightDistillation):
    """The loss of a carried model on samples on which it should stay the new base. It takes no steps of its own."""

    def __init__(
        self,
        carried: PreTrainedModel,
        new_base: PreTrainedModel,
        batches: BatchSplit,
        options: LearningOptions,
        keeps_answers: bool,
        seed: int,
        streams: bool,
    ) -> None:
        self.keeps_answers = keeps_answers
        self.answer_weight = float(keeps_answers)
        super().__init__(carried, [new_base], [1.0], batches, options, uniform, (), seed, streams)
        self.best_weights = []

    def next_loss(self) -> Tensor:
        """Return the loss on the next batch."""
        return self.loss(self._draw_batch())

    def restart_drawing(self) -> None:
        """Draw the batches from the first one on again."""
        self.order = BatchOrder(len(self.train_batches), self.seed)
        self.draws = [0] * len(self.train_batches)

    def drawing_state(self) -> dict[str, Any]:
        """Return what decides which batches are drawn next."""
        return {"order": self.order.state_dict(), "draws": list(self.draws)}

    def load_drawing_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state returned by `drawing_state`."""
        self.order.load_state_dict(state["order"])
        self.load_draws(state["draws"])
