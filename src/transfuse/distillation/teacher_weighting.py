"""Methods that weight several teachers sample by sample.

A model is of little use on data that it has not seen, and so is a plain mean of models that have seen different data.
Without labels, the confidence of a prediction (its low entropy) indicates that a model knows a sample, although a
confident model may be wrong. For images, the prediction is the mean over slightly moved images. With labels, the
likelihood of the label shows it. Numbers and embeddings are not distributions, so models that predict these are
weighted alike.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, batch_size, is_labeled_per_sample, labels_of, mean_per_sample, sample_indices
from transfuse.base.budget import logits_at_once
from transfuse.config.literals import TeacherWeighting
from transfuse.distillation.moved_images import can_be_moved, moved_log_probabilities
from transfuse.network.output_losses import SOFTMAX, OutputLoss, output_loss
from transfuse.network.outputs import predict, predict_in_slices
from transfuse.network.precision import mixed_precision

SHARPNESS = 4.0  # one more nat of entropy, or of loss, divides the weight of a model by exp(4)

Shares = Float[Tensor, "model sample"]  # weight of each model for each sample; those of a sample sum to one
Logits = Float[Tensor, "answer cls"]
LogitSlices = Iterable[Logits]  # the logits of one model, in slices of consecutive answers


@dataclass(frozen=True)
class TeacherOutputs:
    """What several models predict for a batch.

    Attributes:
        logits: outputs of each model.
        weights: one weight per model. They sum to one.
        batch: the samples.
        loss: the loss of such outputs.
        models: the models, if they may be run on other inputs.
    """

    logits: Sequence[LogitSlices]
    weights: Sequence[float]
    batch: Batch
    loss: OutputLoss = SOFTMAX
    models: Sequence[PreTrainedModel] = ()

    def shares(self, penalties: Sequence[Float[Tensor, " answer"]]) -> Shares:
        """Return the weights for the mean penalty of each sample. Where it has no answers, no model is preferred."""
        means = torch.stack([mean_per_sample(values, self.batch).nan_to_num(0.0) for values in penalties])
        return penalized(self.weights, means)


WeightingFn: TypeAlias = Callable[[TeacherOutputs], Shares]
"""Returns the weight of each model for each sample."""


def penalized(weights: Sequence[float], penalties: Float[Tensor, "model sample"]) -> Shares:
    """Return weights[m] * exp(-SHARPNESS * penalty of model m), normalized for every sample.

    Args:
        weights: one weight per model. They sum to one.
    """
    given = torch.tensor(weights, device=penalties.device)
    return (given.log().unsqueeze(1) - SHARPNESS * penalties).softmax(0)


def same_for_all(weights: Sequence[float], batch: Batch) -> Shares:
    """Return the same weights for every sample of a batch."""
    return torch.tensor(weights).unsqueeze(1).expand(-1, batch_size(batch))


def uniform(outputs: TeacherOutputs) -> Shares:
    """Return the given weights for every sample."""
    return same_for_all(outputs.weights, outputs.batch)


def by_entropy(outputs: TeacherOutputs) -> Shares:
    """Return weights that fall with the entropy of each model's prediction.

    For images that belong to one class of several, the prediction is the mean over slightly moved images. The given
    weights are returned if predictions are not distributions.
    """
    loss, logits = outputs.loss, outputs.logits
    if loss.entropies is None:
        return uniform(outputs)
    if outputs.models and loss is SOFTMAX and can_be_moved(outputs.batch):
        logits = [[moved_log_probabilities(model, outputs.batch)] for model in outputs.models]
    return outputs.shares([torch.cat([*map(loss.entropies, slices)]) for slices in logits])


def by_likelihood(outputs: TeacherOutputs) -> Shares:
    """Return weights that fall with the mean loss of each model on the labels.

    The given weights are returned if predictions are not distributions.
    """
    if outputs.loss.entropies is None:
        return uniform(outputs)
    return outputs.shares([_losses(slices, labels_of(outputs.batch), outputs.loss) for slices in outputs.logits])


def automatic(outputs: TeacherOutputs) -> Shares:
    """Return weights by likelihood for texts, whose tokens are their labels, and by entropy for anything else."""
    return (by_entropy if is_labeled_per_sample(outputs.batch) else by_likelihood)(outputs)


def ineffective_weighting(name: str, loss: OutputLoss) -> str | None:
    """Return a line for the user if a weighting that was asked for has no effect on such outputs."""
    if loss.entropies is not None or name not in ("confidence", "labels"):
        return None
    return (
        f"--teacher-weighting {name}: the models predict numbers or embeddings, which have no confidence; their weights"
        " are the same for all samples"
    )


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
    """Return the weight of each model for each sample, in mixed precision. Uniform weighting runs no model."""
    slices = [predict_in_slices(model, batch, logits_at_once(model)) for model in models]
    with mixed_precision(models[0].device):
        return weighting(TeacherOutputs(slices, weights, batch, output_loss(models[0]), models))


@torch.no_grad()
def ensemble_predictions(
    weighting: WeightingFn,
    models: Sequence[PreTrainedModel],
    weights: Sequence[float],
    batch: Batch,
    temperature: float = 1.0,
) -> Float[Tensor, "answer cls"]:
    """Return the weighted mean of what the models predict: probabilities, or numbers.

    Args:
        weights: one weight per model. They sum to one.
        temperature: divides the logits of the mean, but not those that `weighting` reads.
    """
    loss = output_loss(models[0])
    logits = [predict(model, batch) for model in models]
    outputs = TeacherOutputs([[model_logits] for model_logits in logits], weights, batch, loss, models)
    shares = weighting(outputs).to(logits[0])
    samples = sample_indices(batch, len(logits[0])).to(shares.device)
    return weighted_rows(shares[:, samples], (loss.predictions(model_logits / temperature) for model_logits in logits))


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


def _losses(slices: LogitSlices, labels: Tensor, loss: OutputLoss) -> Float[Tensor, " answer"]:
    """Return the loss of each answer in nats."""
    losses: list[Tensor] = []
    start = 0
    for part in slices:
        targets = labels[start : start + len(part)].to(part.device)
        losses.append(loss.losses(part, targets, reduction="none"))
        start += len(part)
    return torch.cat(losses)
