"""Methods that weight several teachers sample by sample.

A model is of little use on data that it has not seen, and so is a plain mean of models that have seen different data.
Without labels, the confidence of a prediction (its low entropy) indicates that a model knows a sample, although a
confident model may be wrong. With labels, the likelihood of the label shows it.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, is_labeled_per_sample, labels_of, mean_per_sample, sample_indices
from transfuse.config.literals import TeacherWeighting
from transfuse.network.outputs import predict

SHARPNESS = 4.0  # one more nat of entropy, or of loss, divides the weight of a model by exp(4)

Shares = Float[Tensor, "model sample"]  # weight of each model for each sample; those of a sample sum to one
Logits = Float[Tensor, "answer cls"]
WeightingFn = Callable[[Sequence[Logits], Sequence[float], Batch], Shares]


def uniform(logits: Sequence[Logits], weights: Sequence[float], batch: Batch) -> Shares:
    """Return the given weights for every sample. They sum to one, and `logits` is ignored."""
    return torch.tensor(weights).unsqueeze(1).expand(-1, batch_size(batch))


def by_entropy(logits: Sequence[Logits], weights: Sequence[float], batch: Batch) -> Shares:
    """Return weights[m] * exp(-SHARPNESS * entropy of model m's prediction), normalized for every sample."""
    entropies = torch.stack([_entropy(model_logits, batch) for model_logits in logits])
    prior = torch.tensor(weights, device=entropies.device).log().unsqueeze(1)
    return (prior - SHARPNESS * entropies).softmax(0)


def by_likelihood(logits: Sequence[Logits], weights: Sequence[float], batch: Batch) -> Shares:
    """Return weights[m] * exp(-SHARPNESS * mean loss of model m on the labels), normalized for every sample."""
    labels = labels_of(batch).to(logits[0].device)
    losses = [cross_entropy(model_logits, labels, reduction="none") for model_logits in logits]
    mean_losses = torch.stack([_mean_per_sample(model_losses, batch) for model_losses in losses])
    return (torch.tensor(weights, device=mean_losses.device).log().unsqueeze(1) - SHARPNESS * mean_losses).softmax(0)


def automatic(logits: Sequence[Logits], weights: Sequence[float], batch: Batch) -> Shares:
    """Return weights by likelihood for texts, whose tokens are their labels, and by entropy for anything else."""
    return (by_entropy if is_labeled_per_sample(batch) else by_likelihood)(logits, weights, batch)


TEACHER_WEIGHTING: dict[Literal["auto", TeacherWeighting], WeightingFn] = {
    "auto": automatic,
    "uniform": uniform,
    "confidence": by_entropy,
    "labels": by_likelihood,
}


@torch.no_grad()
def teacher_weights(
    weighting: WeightingFn, models: Sequence[PreTrainedModel], weights: Sequence[float], batch: Batch
) -> Shares:
    """Return the weight of each model for each sample. Uniform weighting runs no model."""
    logits = () if weighting is uniform else [predict(model, batch) for model in models]
    return weighting(logits, weights, batch)


@torch.no_grad()
def ensemble_probabilities(
    weighting: WeightingFn,
    models: Sequence[PreTrainedModel],
    weights: Sequence[float],
    batch: Batch,
    temperature: float = 1.0,
) -> Float[Tensor, "answer cls"]:
    """Return the weighted mean of the models' probabilities.

    Args:
        weights: one weight per model. They sum to one.
        temperature: divides the logits of the mean, but not those that `weighting` reads.
    """
    logits = [predict(model, batch) for model in models]
    shares = weighting(logits, weights, batch).to(logits[0])
    return weighted_probabilities([model_logits / temperature for model_logits in logits], shares, batch)


def weighted_probabilities(logits: Sequence[Logits], shares: Shares, batch: Batch) -> Float[Tensor, "answer cls"]:
    """Return the mean of the models' probabilities, weighted sample by sample."""
    samples = sample_indices(batch, len(logits[0])).to(shares.device)
    return weighted_rows(shares[:, samples], [model_logits.softmax(-1) for model_logits in logits])


def weighted_rows(
    shares: Float[Tensor, "model row"], values: Sequence[Float[Tensor, "row entry"]]
) -> Float[Tensor, "row entry"]:
    """Return the mean of several models' values, weighted row by row."""
    return torch.stack([share.unsqueeze(1) * rows for share, rows in zip(shares, values, strict=True)]).sum(0)


def _entropy(logits: Logits, batch: Batch) -> Float[Tensor, " sample"]:
    """Return the mean entropy, in nats, of each sample's predictions: one class, or several positions or tokens."""
    return _mean_per_sample(-(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1), batch)


def _mean_per_sample(values: Float[Tensor, " answer"], batch: Batch) -> Float[Tensor, " sample"]:
    """Return the mean over each sample's answers, and 0 where a sample has none: no model is preferred there."""
    return mean_per_sample(values, batch).nan_to_num(0.0)
