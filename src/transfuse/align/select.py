"""Which of several alignments to keep, judged without labels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.batch import Batch, first, size, unlabelled
from transfuse.errors import NOTHING_SAID, DataError
from transfuse.network.model import answer, has_scores, predict, with_tensors

Tensors = Mapping[str, Tensor]
SAMPLES = 1000  # calibration samples that candidates are judged on, at most


@torch.no_grad()
def disagreement(
    anchor: PreTrainedModel, source: PreTrainedModel, candidates: Mapping[str, tuple[Tensors, Tensors]],
    batches: Sequence[Batch],
) -> dict[str, float]:  # fmt: skip
    """How far every candidate is from the mean of its parents, per sample.

    Cross-entropy in nats against the mean of their probabilities; of models without a head, the squared distance from
    the mean of their answers, the source's as it is carried into the anchor's basis.

    Args:
        candidates: by name, the tensors of the carried source and of the merged model.
        batches: calibration samples; labels are not looked at.
    """
    judged = list(first(batches, SAMPLES))
    merged = {name: with_tensors(anchor, tensors) for name, (_, tensors) in candidates.items()}
    total, count = dict.fromkeys(merged, 0.0), 0
    if not has_scores(anchor):
        sources = {name: with_tensors(source, tensors) for name, (tensors, _) in candidates.items()}
        return {name: sum(_distance(anchor, sources[name], merged[name], batch) for batch in judged) for name in merged}
    for batch in judged:
        target = (predict(anchor, batch).softmax(-1) + predict(source, batch).softmax(-1)) / 2
        count += len(target)
        for name, model in merged.items():
            total[name] -= float((target * predict(model, batch).log_softmax(-1)).sum())
    if not count:
        raise DataError(NOTHING_SAID)
    return {name: value / count for name, value in total.items()}


def _distance(anchor: PreTrainedModel, source: PreTrainedModel, merged: PreTrainedModel, batch: Batch) -> float:
    inputs = {name: values.to(anchor.device) for name, values in unlabelled(batch).items()}
    first, second, found = (answer(model, inputs) for model in (anchor, source, merged))
    return float(((first + second) / 2 - found).square().sum()) / size(inputs)
