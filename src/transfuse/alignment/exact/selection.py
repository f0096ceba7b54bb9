"""Selection among several alignments, without labels."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, first_samples, on_device, without_labels
from transfuse.base.batch_cache import BatchCache
from transfuse.base.budget import cache_bytes
from transfuse.base.lazy import Tensors
from transfuse.distillation.teacher_weighting import ensemble_predictions, uniform
from transfuse.errors import NO_TARGETS, DataError
from transfuse.merging.mean import mean
from transfuse.network.model import with_tensors
from transfuse.network.output_losses import output_loss
from transfuse.network.outputs import has_logits, model_output, predict

MAX_SAMPLES = 1000  # calibration samples on which candidates are compared


@torch.no_grad()
def disagreement(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    target: Tensors,
    carried: Mapping[str, Tensors],
    batches: Sequence[Batch],
) -> dict[str, float]:
    """Return how much the mean of the anchor and each candidate disagrees with the parents, per prediction.

    The measure is the loss of their kind against the mean of what the parents predict. For models without a head,
    it is the squared distance from the mean of the outputs of the anchor and of the candidate. Only one candidate at a
    time is in memory.

    Args:
        anchor: the first parent.
        source: the second parent.
        target: the anchor's tensors in the common basis.
        carried: the source's tensors in that basis, by the name of the candidate.
        batches: calibration samples. Labels are ignored.

    Raises:
        DataError: no sample has a prediction to compare.
    """
    selected = list(first_samples(batches, MAX_SAMPLES))
    score = (
        EnsembleDisagreement(anchor, source, selected)
        if has_logits(anchor)
        else partial(_output_distance, anchor, source, selected)
    )
    return {
        name: score(with_tensors(anchor, mean([target, tensors], [0.5, 0.5])), tensors)
        for name, tensors in carried.items()
    }


class EnsembleDisagreement:
    """Loss of a merged model against the mean of what its parents predict, which is cached."""

    def __init__(self, anchor: PreTrainedModel, source: PreTrainedModel, batches: Sequence[Batch]) -> None:
        self.parents = (anchor, source)
        self.loss = output_loss(anchor)
        self.batches = batches
        self.cache = BatchCache(batches, cache_bytes("candidate predictions"))

    def __call__(self, merged: PreTrainedModel, carried: Tensors) -> float:
        total, count = 0.0, 0
        for batch in self.batches:
            targets = self.cache.get_or_compute(batch, self._targets)
            total += float(self.loss.losses(predict(merged, batch), targets, reduction="sum"))
            count += len(targets)
        if not count:
            raise DataError(NO_TARGETS)
        return total / count

    def _targets(self, batch: Batch) -> Float[Tensor, "answer cls"]:
        return ensemble_predictions(uniform, self.parents, (0.5, 0.5), batch)


def _output_distance(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    batches: Sequence[Batch],
    merged: PreTrainedModel,
    carried: Tensors,
) -> float:
    aligned = with_tensors(source, carried)
    total = 0.0
    for batch in batches:
        inputs = on_device(without_labels(batch), anchor.device)
        first, second, output = (model_output(model, inputs) for model in (anchor, aligned, merged))
        total += float(((first + second) / 2 - output).square().sum())
    return total / sum(map(batch_size, batches))
