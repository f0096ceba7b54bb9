"""Whom of several parents to believe about a sample, without labels.

Models that saw different data are each worthless on what they do not know, and their mean is half as good on
everything. A model that knows a sample is sure of its answer: the entropy of its prediction is low.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.batch import Batch, asked
from transfuse.choices import Trust
from transfuse.network.model import predict

SHARPNESS = 4.0  # a nat more of entropy makes a model exp(4) times less trusted

Shares = Float[Tensor, "model sample"]


def even(models: Sequence[PreTrainedModel], weights: Sequence[float], batch: Batch) -> Shares:
    """The same weights for every sample; they sum to one."""
    size = len(next(iter(batch.values())))
    return torch.tensor(weights).unsqueeze(1).expand(-1, size)


@torch.no_grad()
def confident(models: Sequence[PreTrainedModel], weights: Sequence[float], batch: Batch) -> Shares:
    """Weights times how sure each model is of each sample, normalised."""
    doubt = torch.stack([_entropy(predict(model, batch), batch) for model in models])
    prior = torch.tensor(weights, device=doubt.device).log().unsqueeze(1)
    return (prior - SHARPNESS * doubt).softmax(0)


def _entropy(logits: Float[Tensor, "answer cls"], batch: Batch) -> Float[Tensor, " sample"]:
    """Mean over what is asked of a sample: one class, several places, or the words that are to be guessed."""
    found = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    sample = asked(batch, len(found)).to(found.device)
    size = len(next(iter(batch.values())))
    sums, counts = (found.new_zeros(size).index_add(0, sample, each) for each in (found, torch.ones_like(found)))
    return sums / counts.clamp_min(1)


Believe = Callable[[Sequence[PreTrainedModel], Sequence[float], Batch], Shares]
TRUST: dict[Trust, Believe] = {"even": even, "confidence": confident}
