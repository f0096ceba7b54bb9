"""Whom of several parents to believe about a sample.

Models that saw different data are each worthless on what they do not know, and their mean is half as good on
everything. Without labels: a model that knows a sample is sure of its answer, so the entropy of its prediction is low;
not every model that is sure knows, though. With labels: it gives the right answer.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, answers_per_sample, batch_size, labels_of, per_sample
from transfuse.config.literals import TeacherWeighting
from transfuse.network.model import predict

SHARPNESS = 4.0  # a nat more of entropy makes a model exp(4) times less trusted

Shares = Float[Tensor, "model sample"]
Logits = Float[Tensor, "answer cls"]


def uniform(said: Sequence[Logits], weights: Sequence[float], batch: Batch) -> Shares:
    """The same weights for every sample; they sum to one."""
    return torch.tensor(weights).unsqueeze(1).expand(-1, batch_size(batch))


def by_entropy(said: Sequence[Logits], weights: Sequence[float], batch: Batch) -> Shares:
    """Weights times how sure each model is of each sample, normalised."""
    doubt = torch.stack([_entropy(each, batch) for each in said])
    prior = torch.tensor(weights, device=doubt.device).log().unsqueeze(1)
    return (prior - SHARPNESS * doubt).softmax(0)


def by_likelihood(said: Sequence[Logits], weights: Sequence[float], batch: Batch) -> Shares:
    """Weights times the likelihood that each model gives the labels of each sample, normalised."""
    labels = labels_of(batch).to(said[0].device)
    loss = torch.stack([_mean(cross_entropy(each, labels, reduction="none"), batch) for each in said])
    return (torch.tensor(weights, device=loss.device).log().unsqueeze(1) - loss).softmax(0)


WeightingFn = Callable[[Sequence[Logits], Sequence[float], Batch], Shares]
TEACHER_WEIGHTING: dict[TeacherWeighting, WeightingFn] = {
    "even": uniform,
    "confidence": by_entropy,
    "labels": by_likelihood,
}


@torch.no_grad()
def teacher_weights(
    believe: WeightingFn, models: Sequence[PreTrainedModel], weights: Sequence[float], batch: Batch
) -> Shares:
    """How far each model is to be believed about each sample; they are asked only where that matters."""
    said = () if believe is uniform else [predict(model, batch) for model in models]
    return believe(said, weights, batch)


@torch.no_grad()
def ensemble_probabilities(
    believe: WeightingFn, models: Sequence[PreTrainedModel], weights: Sequence[float], batch: Batch, heat: float = 1.0
) -> Float[Tensor, "answer cls"]:
    """The mean of the models' probabilities at a temperature, each as far as it is believed."""
    said = [predict(model, batch) for model in models]
    shares = believe(said, weights, batch).to(said[0])
    return weighted_probabilities([each / heat for each in said], shares, batch)


def weighted_probabilities(said: Sequence[Logits], shares: Shares, batch: Batch) -> Float[Tensor, "answer cls"]:
    """The mean of the models' probabilities, each as far as it is believed."""
    return weighted_rows(
        shares[:, answers_per_sample(batch, len(said[0])).to(shares.device)], [each.softmax(-1) for each in said]
    )


def weighted_rows(
    shares: Float[Tensor, "model row"], values: Sequence[Float[Tensor, "row entry"]]
) -> Float[Tensor, "row entry"]:
    """The weighted mean of what several models give, row by row."""
    return torch.stack([share.unsqueeze(1) * each for share, each in zip(shares, values, strict=True)]).sum(0)


def _entropy(logits: Float[Tensor, "answer cls"], batch: Batch) -> Float[Tensor, " sample"]:
    """Mean over what is asked of a sample: one class, several places, or the words that are to be guessed."""
    found = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
    return _mean(found, batch)


def _mean(values: Float[Tensor, " answer"], batch: Batch) -> Float[Tensor, " sample"]:
    """Over what is asked of a sample; where nothing is, nobody is trusted more than another."""
    return per_sample(values, batch).nan_to_num(0.0)
