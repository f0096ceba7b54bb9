"""Which of several alignments to keep, judged without labels."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.align.evidence import Batch, unlabelled
from transfuse.network.model import with_tensors

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
    target = (_logits(anchor, judged).softmax(-1) + _logits(source, judged).softmax(-1)) / 2
    found = {}
    for name, tensors in candidates.items():
        predicted = _logits(with_tensors(anchor, tensors), judged).log_softmax(-1)
        found[name] = float(-(target * predicted).sum(-1).mean())
    return found


def _logits(model: PreTrainedModel, batches: Sequence[Batch]) -> Tensor:
    return torch.cat([model(**unlabelled(batch)).logits.float() for batch in batches])
