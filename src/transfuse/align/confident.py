"""Which samples to align by: those that no parent gets badly wrong (`loss_thres` in TF-OT's code)."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from transfuse.batch import MISSING, Batch, answers
from transfuse.errors import DataError
from transfuse.network.model import predict


def confident(
    models: Sequence[PreTrainedModel], batches: Iterable[Batch], most: float, count: int
) -> list[dict[str, Tensor]]:
    """The first `count` labelled samples on which no model's cross-entropy exceeds `most` nats, or all there are.

    Raises:
        DataError: there is none.
    """
    found = list(_first(_kept(models, batches, most), count))
    if not found:
        raise DataError(f"no sample has a loss of at most {most:g} in every model; raise max_loss")
    return found


def _kept(models: Sequence[PreTrainedModel], batches: Iterable[Batch], most: float) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        worst = torch.stack([sample_losses(model, batch) for model in models]).amax(0)
        yield {name: values[worst.to(values.device) <= most] for name, values in batch.items()}


def _first(batches: Iterable[dict[str, Tensor]], count: int) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        batch = {name: values[:count] for name, values in batch.items()}
        size = len(next(iter(batch.values())))
        count -= size
        if size:
            yield batch
        if not count:
            return


def sample_losses(model: PreTrainedModel, batch: Batch) -> Float[Tensor, " sample"]:
    """Cross-entropy of every sample with its label; of a text, the mean over its hidden words."""
    losses = cross_entropy(predict(model, batch).cpu(), answers(batch).cpu(), reduction="none")
    labels = batch["labels"].cpu()
    if labels.ndim == 1:
        return losses
    hidden = labels != MISSING
    sums = torch.zeros(len(labels)).index_add_(0, hidden.nonzero()[:, 0], losses)
    return torch.where(hidden.any(1), sums / hidden.sum(1), torch.inf)  # of a text without a word, nothing is known
