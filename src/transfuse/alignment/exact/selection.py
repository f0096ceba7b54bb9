"""Which of several alignments to keep, judged without labels."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, first_samples, without_labels
from transfuse.base.batch_cache import BatchCache
from transfuse.base.lazy import Tensors
from transfuse.distillation.teacher_weighting import ensemble_probabilities, uniform
from transfuse.errors import NOTHING_SAID, DataError
from transfuse.merging.mean import mean
from transfuse.network.model import has_scores, model_output, predict, with_tensors

SAMPLES = 1000  # calibration samples that candidates are judged on, at most
ROOM = 2**27  # bytes of the parents' answers that are kept from one candidate to the next, at most


@torch.no_grad()
def disagreement(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    target: Tensors,
    carried: Mapping[str, Tensors],
    batches: Sequence[Batch],
) -> dict[str, float]:
    """How far the mean of the anchor and every candidate is from the mean of both parents, per sample.

    Cross-entropy in nats against the mean of their probabilities; of models without a head, the squared distance from
    the mean of their answers, the source's as it is carried into the anchor's basis. One candidate at a time is in
    memory.

    Args:
        target: the anchor's tensors in the common basis; `carried`: by the candidate's name, the source's.
        batches: calibration samples; labels are not looked at.
    """
    judged = list(first_samples(batches, SAMPLES))
    judge = (
        EnsembleDisagreement(anchor, source, judged)
        if has_scores(anchor)
        else partial(_distances, anchor, source, judged)
    )
    return {name: judge(with_tensors(anchor, mean([target, each], [0.5, 0.5])), each) for name, each in carried.items()}


class EnsembleDisagreement:
    """What the parents say on average; remembered, where that is little."""

    def __init__(self, anchor: PreTrainedModel, source: PreTrainedModel, batches: Sequence[Batch]) -> None:
        self.parents, self.batches = (anchor, source), batches
        self.memory = BatchCache(batches, ROOM)

    def __call__(self, merged: PreTrainedModel, carried: Tensors) -> float:
        total, count = 0.0, 0
        for batch in self.batches:
            wanted = self.memory.get_or_compute(batch, self._wanted)
            total -= float((wanted * predict(merged, batch).log_softmax(-1)).sum())
            count += len(wanted)
        if not count:
            raise DataError(NOTHING_SAID)
        return total / count

    def _wanted(self, batch: Batch) -> Float[Tensor, "answer cls"]:
        return ensemble_probabilities(uniform, self.parents, (0.5, 0.5), batch)


def _distances(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    batches: Sequence[Batch],
    merged: PreTrainedModel,
    carried: Tensors,
) -> float:
    moved = with_tensors(source, carried)
    total = 0.0
    for batch in batches:
        inputs = {name: values.to(anchor.device) for name, values in without_labels(batch).items()}
        one, two, found = (model_output(model, inputs) for model in (anchor, moved, merged))
        total += float(((one + two) / 2 - found).square().sum()) / batch_size(inputs)
    return total
