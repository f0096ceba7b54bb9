"""Training of the small model to do what the large one does: block by block in its streams, and in its predictions."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.config.literals import LearningOptions
from transfuse.distillation.teacher_weighting import uniform
from transfuse.distillation.validation import BatchSplit
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.network.operations import Linear
from transfuse.network.output_losses import EMBEDDINGS, OutputLoss
from transfuse.network.outputs import AnswerStates, embedding_states, given_logits
from transfuse.shrinking.projection import Projection


class ProjectedDistillation(WeightDistillation):
    """Train the weights of a small model on the streams of a large one, mapped into its own."""

    def __init__(
        self, small: PreTrainedModel, projection: Projection, batches: BatchSplit, options: LearningOptions, seed: int
    ) -> None:
        self.projection = projection
        super().__init__(small, [projection.large], [1.0], batches, options, uniform, (), seed)

    def _loss(self, parent: PreTrainedModel) -> OutputLoss:
        """Return the loss of the outputs; embeddings of another width are compared in the units of the small model."""
        loss = super()._loss(parent)
        name = _embeds(self.projection) if loss is EMBEDDINGS else None
        return loss if name is None else replace(loss, answers=partial(self._embeddings, name))

    def _embeddings(self, name: str, model: PreTrainedModel, batch: Batch) -> AnswerStates:
        """Return the embeddings of the small or the large model in the units of the small one.

        Args:
            name: the module whose output they are, or that writes the stream that they are read from.
        """
        found = embedding_states(model, batch)
        if model is not self.projection.large or found.classes != self.projection.axes[name, "output"][0].size:
            return found
        with torch.autocast(found.states.device.type, enabled=False):
            return given_logits(self.projection.project(found.states, name, "output"))

    @torch.no_grad()
    def _parent_outputs(self, parent: PreTrainedModel, batch: Batch) -> tuple[AnswerStates, list[Tensor]]:
        projection = self.projection
        large_names = [projection.blocks.large_name(name, at_end=True) for name in self.matched_names]
        answers, outputs = self._forward(parent, batch, large_names)
        writers = [_stream_writer(projection, name) for name in self.matched_names]
        pairs = zip(outputs, writers, strict=True)
        return answers, [
            values if name is None else projection.project(values, name, "output") for values, name in pairs
        ]


def _embeds(projection: Projection) -> str | None:
    """Return the norm that returns the embeddings, or else a linear map of their stream; None: no stream is mapped."""
    if not (writers := [op.name for op in projection.cut.linears() if _writes_stream(projection, op)]):
        return None
    return next((norm.name for norm in projection.cut.norms() if norm.is_output), writers[-1])


def _stream_writer(projection: Projection, block: str) -> str | None:
    """Return a linear map of a block that writes the stream; None if there is none, or if no stream is mapped."""
    writers = (linear for linear in projection.cut.linears() if linear.name.startswith(f"{block}."))
    return next((op.name for op in writers if _writes_stream(projection, op)), None)


def _writes_stream(projection: Projection, linear: Linear) -> bool:
    """Return whether a linear map writes a stream that is mapped."""
    streams = [name for name in projection.maps if name.startswith("stream")]
    return any(space.name in streams for space in linear.writes.spaces())
