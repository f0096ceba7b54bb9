"""Methods that weight several teachers sample by sample.

A model is of little use on data that it has not seen, and so is a plain mean of models that have seen different data.
Without labels, the confidence of a prediction (its low entropy) indicates that a model knows a sample, although a
confident model may be wrong. With labels, the likelihood of the label shows it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, is_labeled_per_sample, labels_of, mean_per_sample, sample_indices
from transfuse.base.budget import logits_at_once
from transfuse.config.literals import TeacherWeighting
from transfuse.network.outputs import predict, predict_in_slices

SHARPNESS = 4.0  # one more nat of entropy, or of loss, divides the weight of a model by exp(4)

Shares = Float[Tensor, "model sample"]  # weight of each model for each sample; those of a sample sum to one
Logits = Float[Tensor, "answer cls"]
LogitSlices = Iterable[Logits]  # the logits of one model, in slices of consecutive answers
WeightingFn = Callable[[Sequence[LogitSlices], Sequence[float], Batch], Shares]


def uniform(logits: Sequence[LogitSlices], weights: Sequence[float], batch: Batch) -> Shares:
    """Return the given weights for every sample. They sum to one, and `logits` is ignored."""
    return torch.tensor(weights).unsqueeze(1).expand(-1, batch_size(batch))


def by_entropy(logits: Sequence[LogitSlices], weights: Sequence[float], batch: Batch) -> Shares:
    """Return weights[m] * exp(-SHARPNESS * entropy of model m's prediction), normalized for every sample."""
    return _shares([torch.cat([_entropies(part) for part in slices]) for slices in logits], weights, batch)


def by_likelihood(logits: Sequence[LogitSlices], weights: Sequence[float], batch: Batch) -> Shares:
    """Return weights[m] * exp(-SHARPNESS * mean loss of model m on the labels), normalized for every sample."""
    return _shares([_losses(slices, labels_of(batch)) for slices in logits], weights, batch)


def automatic(logits: Sequence[LogitSlices], weights: Sequence[float], batch: Batch) -> Shares:
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
    return weighting([predict_in_slices(model, batch, logits_at_once(model)) for model in models], weights, batch)


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
    shares = weighting([[model_logits] for model_logits in logits], weights, batch).to(logits[0])
    samples = sample_indices(batch, len(logits[0])).to(shares.device)
    return weighted_rows(shares[:, samples], ((model_logits / temperature).softmax(-1) for model_logits in logits))


def weighted_rows(
    shares: Float[Tensor, "model row"], values: Iterable[Float[Tensor, "row entry"]]
) -> Float[Tensor, "row entry"]:
    """Return the mean of several models' values, weighted row by row. Values are drawn one model at a time."""
    columns = shares.unsqueeze(2)
    first, *others = columns
    values = iter(values)
    total = first * next(values)
    for column in others:
        total.addcmul_(column, next(values))
    return total


def _shares(penalties: Sequence[Float[Tensor, " answer"]], weights: Sequence[float], batch: Batch) -> Shares:
    """Return shares that fall with the mean of a sample's penalties.

    Where a sample has no answers, no model is preferred.
    """
    means = torch.stack([mean_per_sample(values, batch).nan_to_num(0.0) for values in penalties])
    return (torch.tensor(weights, device=means.device).log().unsqueeze(1) - SHARPNESS * means).softmax(0)


def _entropies(logits: Logits) -> Float[Tensor, " answer"]:
    """Return the entropy of each answer's prediction in nats: one class, or several positions or tokens."""
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def _losses(slices: LogitSlices, labels: Int[Tensor, " answer"]) -> Float[Tensor, " answer"]:
    """Return the loss of each answer in nats."""
    losses: list[Tensor] = []
    start = 0
    for part in slices:
        targets = labels[start : start + len(part)].to(part.device)
        losses.append(cross_entropy(part, targets, reduction="none"))
        start += len(part)
    return torch.cat(losses)
