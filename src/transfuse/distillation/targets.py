"""What a merged model should say of a sample: what the parents say, or the label."""

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, answers
from transfuse.base.batch_cache import Memory
from transfuse.config.literals import Learning
from transfuse.distillation.teacher_weighting import Believe, together

ROOM = 2**28  # bytes that may be remembered of what parents say of samples that come again as they were


class Objective:
    """Of one run; what parents say of batches that last as long as it does is remembered."""

    def __init__(
        self, parents: Sequence[PreTrainedModel], weights: Sequence[float], options: Learning, believe: Believe,
        lasting: Iterable[Batch],
    ) -> None:  # fmt: skip
        self.labels = options.objective == "labels"
        self.said = partial(together, believe, parents, weights)
        self.memory = Memory(lasting, ROOM)

    def wanted(self, batch: Batch) -> Tensor:
        """Labels, or the parents' mean probabilities, [answer, class]."""
        return answers(batch) if self.labels else self.memory.of(batch, self.said)
