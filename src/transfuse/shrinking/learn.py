"""Training of the small model to do what the large one does: block by block in its streams, and in its predictions."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.config.literals import LearningOptions
from transfuse.distillation.teacher_weighting import uniform
from transfuse.distillation.validation import BatchSplit
from transfuse.merging.learned_weights import WeightDistillation
from transfuse.network.outputs import AnswerStates
from transfuse.shrinking.projection import Projection


class ProjectedDistillation(WeightDistillation):
    """Train the weights of a small model on the streams of a large one, mapped into its own."""

    def __init__(
        self, small: PreTrainedModel, projection: Projection, batches: BatchSplit, options: LearningOptions, seed: int
    ) -> None:
        self.projection = projection
        super().__init__(small, [projection.large], [1.0], batches, options, uniform, (), seed)

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


def _stream_writer(projection: Projection, block: str) -> str | None:
    """Return a linear map of a block that writes the stream; None if there is none, or if no stream is mapped."""
    writers = (linear for linear in projection.cut.linears() if linear.name.startswith(f"{block}."))
    streams = [name for name in projection.maps if name.startswith("stream")]
    return next((op.name for op in writers if any(s.name in streams for s in op.writes.spaces())), None)
