"""How far a changed model's predictions are from those of the whole model."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, without_labels
from transfuse.network.outputs import has_logits, model_output, predict

MAX_ANSWERS = 2048  # of a batch, evenly spaced


class Damage:
    """Measure the mean divergence of predictions from those of a model; of models without a head, of their outputs."""

    def __init__(self, model: PreTrainedModel, batches: Sequence[Batch]) -> None:
        self.batches = batches
        self.outputs: Callable[[PreTrainedModel, Batch], Tensor]
        self.outputs = _log_probabilities if has_logits(model) else _raw_output
        with torch.no_grad():
            self.whole = [self.outputs(model, batch) for batch in batches]

    @torch.no_grad()
    def of(self, model: PreTrainedModel) -> float:
        """Return the divergence of another model, in nats for predictions."""
        pairs = ((self.outputs(model, batch), whole) for batch, whole in zip(self.batches, self.whole, strict=True))
        total = sum(float(_distance(found, whole)) for found, whole in pairs)
        return total / sum(map(len, self.whole))


def _log_probabilities(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return log-probabilities, [answer, class]."""
    scores = predict(model, batch)
    return scores[:: max(1, len(scores) // MAX_ANSWERS)].log_softmax(-1)


def _raw_output(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the outputs of a model without a head, as one vector."""
    return model_output(model, {name: values.to(model.device) for name, values in without_labels(batch).items()})


def _distance(found: Tensor, whole: Tensor) -> Tensor:
    """Return the total divergence of predictions, or the squared distance of other outputs."""
    if found.ndim == 1:
        return (found - whole).square().sum()
    return (whole.exp() * (whole - found)).sum()
