"""Training targets of a merged model: the parents' mean predictions, or the labels."""

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, labels_of
from transfuse.base.batch_cache import BatchCache
from transfuse.base.budget import cache_bytes
from transfuse.config.literals import LearningOptions
from transfuse.distillation.teacher_weighting import WeightingFn, ensemble_probabilities


class Targets:
    """Compute the targets of batches, and cache those of batches that recur."""

    def __init__(
        self,
        parents: Sequence[PreTrainedModel],
        weights: Sequence[float],
        options: LearningOptions,
        weighting: WeightingFn,
        recurring: Iterable[Batch],
    ) -> None:
        """
        Args:
            weights: one weight per parent. They sum to one.
            weighting: method that weights the parents per sample.
            recurring: batches whose targets are cached. Augmented batches are not among them.
        """
        self.from_labels = options.objective == "labels"
        self.predictions = partial(ensemble_probabilities, weighting, parents, weights)
        self.cache = BatchCache(recurring, cache_bytes("parent predictions"))

    def of_batch(self, batch: Batch) -> Tensor:
        """Return the labels [answer], or the parents' mean probabilities [answer, class]."""
        return labels_of(batch) if self.from_labels else self.cache.get_or_compute(batch, self.predictions)
