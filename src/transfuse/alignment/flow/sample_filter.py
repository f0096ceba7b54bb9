"""The selection of calibration samples that no parent predicts badly (`loss_thres` in the code of TF-OT)."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, first_samples, labels_of, mean_per_sample
from transfuse.errors import DataError
from transfuse.network.output_losses import output_loss
from transfuse.network.outputs import predict


def low_loss_samples(
    models: Sequence[PreTrainedModel], batches: Iterable[Batch], max_loss: float, count: int
) -> list[dict[str, Tensor]]:
    """Return the first samples on which no model's loss exceeds a limit.

    Args:
        models: the parents.
        batches: labeled samples.
        max_loss: the limit, in nats.
        count: largest number of samples.

    Raises:
        DataError: every sample exceeds the limit.
    """
    selected = list(first_samples(_selected(models, batches, max_loss), count))
    if not selected:
        raise DataError(f"no sample has a loss of at most {max_loss:g} in every model; raise max_loss")
    return selected


def _selected(
    models: Sequence[PreTrainedModel], batches: Iterable[Batch], max_loss: float
) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        largest = torch.stack([sample_losses(model, batch) for model in models]).amax(0)
        yield {name: values[largest.to(values.device) <= max_loss] for name, values in batch.items()}


def sample_losses(model: PreTrainedModel, batch: Batch) -> Float[Tensor, " sample"]:
    """Return the cross-entropy of each sample, which for a text is the mean over its masked tokens."""
    losses = output_loss(model).losses(predict(model, batch).cpu(), labels_of(batch).cpu(), reduction="none")
    return mean_per_sample(losses, batch).nan_to_num(torch.inf)  # a text without masked tokens is never selected
