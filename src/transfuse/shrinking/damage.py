"""How far a changed model's predictions are from those of the whole model."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, on_device, without_labels
from transfuse.evaluation.kinds.outputs import predict_similarity
from transfuse.network.output_losses import SQUARED, output_loss
from transfuse.network.outputs import has_logits, model_output, predict

MAX_ANSWERS = 2048  # of a batch, evenly spaced


class Damage:
    """Measure the mean divergence of predictions from those of a model; of models without a head, of their outputs.

    It is the loss of the changed model against the predictions of the whole model, above the loss of the whole model.
    """

    def __init__(self, model: PreTrainedModel, batches: Sequence[Batch]) -> None:
        self.batches = batches
        has_head = has_logits(model)
        self.outputs: Callable[[PreTrainedModel, Batch], Tensor] = _some_logits if has_head else _raw_output
        self.loss = output_loss(model) if has_head else SQUARED
        with torch.no_grad():
            self.whole = [self._targets(self.outputs(model, batch)) for batch in batches]

    @torch.no_grad()
    def of(self, model: PreTrainedModel) -> float:
        """Return the divergence of another model: in nats for classes, the mean square for numbers."""
        total = 0.0
        for batch, (targets, least) in zip(self.batches, self.whole, strict=True):
            total += float((self.loss.losses(self.outputs(model, batch), targets, reduction="none") - least).sum())
        return total / sum(len(least) for _, least in self.whole)

    def _targets(self, outputs: Tensor) -> tuple[Tensor, Float[Tensor, " answer"]]:
        """Return what outputs predict, and their own losses against that."""
        targets = self.loss.predictions(outputs)
        return targets, self.loss.losses(outputs, targets, reduction="none")


def damage_fn(whole: PreTrainedModel, batches: Sequence[Batch]) -> Callable[[PreTrainedModel], float]:
    """Return a function that measures the damage to models of other widths, whose raw outputs may differ in size."""
    return Damage(whole, batches).of if has_logits(whole) else partial(lost_similarity, whole, batches)


def lost_similarity(whole: PreTrainedModel, batches: Sequence[Batch], model: PreTrainedModel) -> float:
    """Return how far the similarities of samples are from those of a model without a head, whatever the widths.

    It is 1 minus the mean correlation. Raises `DataError` if there are too few samples.
    """
    return predict_similarity((whole, model), (batches, batches)).metrics().loss


def _some_logits(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "answer entry"]:
    """Return the logits of evenly spaced answers, fewer than twice `MAX_ANSWERS`."""
    scores = predict(model, batch)
    return scores[:: max(1, len(scores) // MAX_ANSWERS)]


def _raw_output(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "entry 1"]:
    """Return the outputs of a model without a head, as one column."""
    return model_output(model, on_device(without_labels(batch), model.device)).unsqueeze(1)
