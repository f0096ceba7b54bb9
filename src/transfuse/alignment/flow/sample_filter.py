"""Which samples to align by: those that no parent gets badly wrong (`loss_thres` in TF-OT's code)."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, first_samples, labels_of, mean_per_sample
from transfuse.errors import DataError
from transfuse.network.outputs import predict


def low_loss_samples(
    models: Sequence[PreTrainedModel], batches: Iterable[Batch], most: float, count: int
) -> list[dict[str, Tensor]]:
    """The first `count` labelled samples on which no model's cross-entropy exceeds `most` nats, or all there are.

    Raises:
        DataError: there is none.
    """
    found = list(first_samples(_kept(models, batches, most), count))
    if not found:
        raise DataError(f"no sample has a loss of at most {most:g} in every model; raise max_loss")
    return found


def _kept(models: Sequence[PreTrainedModel], batches: Iterable[Batch], most: float) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        worst = torch.stack([sample_losses(model, batch) for model in models]).amax(0)
        yield {name: values[worst.to(values.device) <= most] for name, values in batch.items()}


def sample_losses(model: PreTrainedModel, batch: Batch) -> Float[Tensor, " sample"]:
    """Cross-entropy of every sample with its label; of a text, the mean over its hidden words."""
    losses = cross_entropy(predict(model, batch).cpu(), labels_of(batch).cpu(), reduction="none")
    return mean_per_sample(losses, batch).nan_to_num(torch.inf)  # of a text without a word, nothing is known
