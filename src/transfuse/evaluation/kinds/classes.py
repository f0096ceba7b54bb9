"""Classification without labels: the share of equal predictions, and the divergence from another model."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.evaluation.kind import Columns, Kind, mean_of_log_probabilities, outputs


def answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the logarithm of the probability of each class [sample, class] or [sample, token, class]."""
    return outputs(model, batch)["logits"].double().log_softmax(-1)


def agreement(log_probabilities: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return whether both models predict the same class, and the divergence from the other model in nats."""
    same = (log_probabilities.argmax(-1) == others.argmax(-1)).double()
    return {"correct": same, "counts": torch.ones_like(same), "loss": divergence(log_probabilities, others)}


def divergence(log_probabilities: Tensor, others: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from the other distribution along the last axis, in nats."""
    # Classes without probability have a term of 0; an infinite logarithm would make it NaN.
    shares = others.exp()
    return (shares * (others - log_probabilities)).where(shares != 0, 0.0).sum(-1)


CLASSES = Kind(answers, mean_of_log_probabilities, agreement)
