"""The loss of each kind of output, by which models are trained, validated, weighted and compared.

A model predicts one class of several (or a token, or a position), a set of labels, numbers, or embeddings. Each kind
has predictions whose mean over several models is a target, and a loss against such targets or against labels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.draw import draw_classes
from transfuse.network.outputs import AnswerStates, answer_states, embedding_states, has_logits, unchanged_values

Outputs = Float[Tensor, "answer entry"]
Reduction = Literal["none", "sum", "mean"]
Problem = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True)
class OutputLoss:
    """How outputs of one kind are trained.

    Attributes:
        predictions: returns what outputs predict: probabilities, numbers or embeddings. Targets are means of these.
        losses: returns the loss of outputs against targets, or labels, as `torch.nn.functional.cross_entropy` does.
        gradients: returns the sum of the losses of all answers, and its gradients with respect to the outputs.
        drawn_gradients: returns the gradients of the losses against labels that are drawn from the predictions.
        entropies: returns the entropy of each prediction in nats; None: predictions are not distributions.
        answers: returns the outputs of a model for a batch.
        is_relative: whether a loss is shown, and added to others, relative to that of the models that teach.
    """

    predictions: Callable[[Outputs], Tensor]
    losses: Callable[..., Tensor]
    gradients: Callable[[Outputs, Tensor], tuple[Float[Tensor, ""], Outputs]]
    drawn_gradients: Callable[[Outputs, torch.Generator], Outputs]
    entropies: Callable[[Outputs], Float[Tensor, " answer"]] | None = None
    answers: Callable[[PreTrainedModel, Batch], AnswerStates] = answer_states
    is_relative: bool = False


def problem_type(config: PreTrainedConfig) -> Problem:
    """Return what a classifier's class predicts, which its configuration alone tells."""
    problem = getattr(config, "problem_type", None)
    if problem == "multi_label_classification":
        return "multi_label_classification"
    is_numeric = problem == "regression" or getattr(config, "num_labels", None) == 1
    return "regression" if is_numeric else "single_label_classification"


def output_loss(model: PreTrainedModel, in_one_basis: bool = False) -> OutputLoss:
    """Return the loss of a model's outputs.

    Args:
        in_one_basis: whether the models that are compared are aligned, so that embeddings are comparable. They are
            what models of images and texts and models without a head are then compared by.
    """
    architecture = type(model).__name__
    if architecture.endswith(CLASSIFIERS):
        return BY_PROBLEM[problem_type(model.config)]
    is_embedding = in_one_basis and (architecture in PAIRED or not has_logits(model))
    return EMBEDDINGS if is_embedding else SOFTMAX


def _softmax(outputs: Outputs) -> Outputs:
    return outputs.softmax(-1)


def _softmax_gradients(outputs: Outputs, targets: Tensor) -> tuple[Float[Tensor, ""], Outputs]:
    """Return the summed cross-entropy and its gradients, without a graph, since vocabularies are large."""
    log_probabilities = outputs.log_softmax(-1)
    if targets.is_floating_point():
        loss = -targets.flatten().dot(log_probabilities.flatten())  # which autocast leaves in float32
        return loss, log_probabilities.exp_().mul_(targets.sum(-1, keepdim=True)).sub_(targets)
    loss = -log_probabilities.gather(1, targets.unsqueeze(1)).sum()
    return loss, log_probabilities.exp_().scatter_add_(
        1, targets.unsqueeze(1), targets.new_full((len(targets), 1), -1, dtype=outputs.dtype)
    )


def _softmax_drawn(outputs: Outputs, generator: torch.Generator) -> Outputs:
    gradient = outputs.softmax(-1)
    drawn = draw_classes(gradient, generator).unsqueeze(1)
    return gradient.scatter_add_(1, drawn, gradient.new_full(drawn.shape, -1.0))


def _softmax_entropies(outputs: Outputs) -> Float[Tensor, " answer"]:
    return -(outputs.softmax(-1) * outputs.log_softmax(-1)).sum(-1)


def _sigmoid_losses(outputs: Outputs, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
    losses = binary_cross_entropy_with_logits(outputs, targets.to(outputs), reduction="none")
    return _reduced(losses.mean(1), reduction)


def _sigmoid_gradients(outputs: Outputs, targets: Tensor) -> tuple[Float[Tensor, ""], Outputs]:
    return _sigmoid_losses(outputs, targets, "sum"), (outputs.sigmoid() - targets) / outputs.shape[1]


def _sigmoid_drawn(outputs: Outputs, generator: torch.Generator) -> Outputs:
    probabilities = outputs.sigmoid()
    drawn = torch.rand(outputs.shape, generator=generator).to(outputs) < probabilities
    return (probabilities - drawn.to(outputs)) / outputs.shape[1]


def _sigmoid_entropies(outputs: Outputs) -> Float[Tensor, " answer"]:
    return _sigmoid_losses(outputs, outputs.sigmoid(), "none")


def _squared_losses(outputs: Outputs, targets: Tensor, reduction: Reduction = "mean") -> Tensor:
    return _reduced((outputs - targets).square().mean(1), reduction)


def _squared_gradients(outputs: Outputs, targets: Tensor) -> tuple[Float[Tensor, ""], Outputs]:
    return _squared_losses(outputs, targets, "sum"), 2 * (outputs - targets) / outputs.shape[1]


def _squared_drawn(outputs: Outputs, generator: torch.Generator) -> Outputs:
    """Return noise of variance one: predicted numbers are the means of normal distributions."""
    return torch.randn(outputs.shape, generator=generator).to(outputs)


def _reduced(losses: Float[Tensor, " answer"], reduction: Reduction) -> Tensor:
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.mean()


SOFTMAX = OutputLoss(_softmax, cross_entropy, _softmax_gradients, _softmax_drawn, _softmax_entropies)
SIGMOID = OutputLoss(torch.sigmoid, _sigmoid_losses, _sigmoid_gradients, _sigmoid_drawn, _sigmoid_entropies)
SQUARED = OutputLoss(unchanged_values, _squared_losses, _squared_gradients, _squared_drawn, is_relative=True)
EMBEDDINGS = replace(SQUARED, answers=embedding_states)

BY_PROBLEM: dict[Problem, OutputLoss] = {
    "single_label_classification": SOFTMAX,
    "multi_label_classification": SIGMOID,
    "regression": SQUARED,
}
CLASSIFIERS = ("ForImageClassification", "ForSequenceClassification", "ForImageClassificationWithTeacher")
PAIRED = ("CLIPModel", "SiglipModel")  # models of images and texts, whose logits are those of pairs
