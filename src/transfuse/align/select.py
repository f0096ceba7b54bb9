"""Which of several alignments to keep, judged without labels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.batch import Batch
from transfuse.errors import DataError
from transfuse.network.model import predict, with_tensors

SAMPLES = 1000  # calibration samples that candidates are judged on, at most


@torch.no_grad()
def disagreement(
    anchor: PreTrainedModel, source: PreTrainedModel, candidates: Mapping[str, Mapping[str, Tensor]],
    batches: Sequence[Batch],
) -> dict[str, float]:  # fmt: skip
    """Cross-entropy in nats of every candidate's outputs against the mean of its parents' probabilities.

    Args:
        candidates: tensors of merged models, by name.
        batches: calibration samples; labels are not looked at.
    """
    judged = batches[: max(1, -(-SAMPLES // len(next(iter(batches[0].values())))))]
    merged = {name: with_tensors(anchor, tensors) for name, tensors in candidates.items()}
    total, count = dict.fromkeys(merged, 0.0), 0
    for batch in judged:
        target = (predict(anchor, batch).softmax(-1) + predict(source, batch).softmax(-1)) / 2
        count += len(target)
        for name, model in merged.items():
            total[name] -= float((target * predict(model, batch).log_softmax(-1)).sum())
    if not count:
        raise DataError("nothing to judge alignments by: no text has a word that could be hidden; give longer texts")
    return {name: value / count for name, value in total.items()}
