"""What a merged model should say of a sample: what the parents say, or the label."""

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, labels_of
from transfuse.base.batch_cache import BatchCache
from transfuse.config.literals import LearningOptions
from transfuse.distillation.teacher_weighting import WeightingFn, ensemble_probabilities

CACHE_BYTES = 2**28  # bytes that may be remembered of what parents say of samples that come again as they were


class Targets:
    """Of one run; what parents say of batches that last as long as it does is remembered."""

    def __init__(
        self,
        parents: Sequence[PreTrainedModel],
        weights: Sequence[float],
        options: LearningOptions,
        believe: WeightingFn,
        lasting: Iterable[Batch],
    ) -> None:
        self.labels = options.objective == "labels"
        self.said = partial(ensemble_probabilities, believe, parents, weights)
        self.memory = BatchCache(lasting, CACHE_BYTES)

    def wanted(self, batch: Batch) -> Tensor:
        """Labels, or the parents' mean probabilities, [answer, class]."""
        return labels_of(batch) if self.labels else self.memory.get_or_compute(batch, self.said)
