"""A batch: what a model takes, and the labels that stand beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Batch = Mapping[str, Tensor]
IGNORED_LABEL = -100
"""Label of what has no answer: the index that `torch.nn.functional.cross_entropy` ignores."""
VALIDATION_EVERY = 5  # every fifth batch


def cast(batch: Batch, dtype: torch.dtype) -> dict[str, Tensor]:
    """The batch with its real numbers in this precision; ids and masks stay."""
    return {name: values.to(dtype) if values.is_floating_point() else values for name, values in batch.items()}


def without_labels(batch: Batch) -> dict[str, Tensor]:
    """What a model is given of a batch to predict from."""
    return {name: values for name, values in batch.items() if name != "labels"}


def labels_of(batch: Batch) -> Int[Tensor, " sample"]:
    """The labels of the samples; of language, those of the tokens that were hidden, [batch, token] flattened."""
    labels = batch["labels"]
    return labels if labels.ndim == 1 else labels[labels != IGNORED_LABEL]


def has_targets(batch: Batch) -> bool:
    """Whether there is anything in it that a model is to tell."""
    return "labels" not in batch or len(labels_of(batch)) > 0


def is_labeled_per_sample(batch: Batch) -> bool:
    """Whether one answer a sample is asked for, as a class is, and not one for each hidden word."""
    return "labels" not in batch or batch["labels"].ndim == 1


def batch_size(batch: Batch) -> int:
    """How many samples it holds."""
    return len(next(iter(batch.values())))


def batch_bytes(batch: Batch) -> int:
    """Bytes it takes."""
    return sum(values.nbytes for values in batch.values())


def first_samples(batches: Iterable[Batch], count: int) -> Iterator[dict[str, Tensor]]:
    """The first `count` samples, or all there are; no more is drawn than it takes, and nothing empty given."""
    for batch in batches:
        found = {name: values[:count] for name, values in batch.items()}
        count -= batch_size(found)
        if batch_size(found):
            yield found
        if not count:
            return


def split_batch(batch: Batch, count: int) -> Iterator[dict[str, Tensor]]:
    """The same samples, `count` at a time."""
    for start in range(0, batch_size(batch), count):
        yield {name: values[start : start + count] for name, values in batch.items()}


IndexedBatch = tuple[Int[Tensor, " sample"], Batch]  # samples of a batch, and their places in it


def whole_batch(batch: Batch) -> Iterator[IndexedBatch]:
    """Yield all samples together."""
    yield torch.arange(batch_size(batch)), batch


def group_by_length(batch: Batch, tokens: int) -> Iterator[IndexedBatch]:
    """Yield the texts of a batch, those alike in length together, without the padding that all of them end in.

    Args:
        tokens: that are together, padding included, at most; but for a text that has more itself.
    """
    mask = batch["attention_mask"]
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    lengths = (mask * places).amax(1).clamp_min(1).cpu()
    order, start = lengths.argsort(stable=True), 0
    while start < len(order):
        end = start + 1
        while end < len(order) and int(lengths[order[end]]) * (end + 1 - start) <= tokens:
            end += 1
        chosen, most = order[start:end], int(lengths[order[end - 1]])
        taken = {name: values[chosen.to(values.device)] for name, values in batch.items()}
        yield (
            chosen,
            {
                name: values[:, :most] if values.shape[1:] == mask.shape[1:] else values
                for name, values in taken.items()
            },
        )
        start = end


def sample_indices(batch: Batch, count: int) -> Int[Tensor, " answer"]:
    """Which sample each of `count` rows of scores is about: one a sample, several in turn, or every asked word."""
    if is_labeled_per_sample(batch):
        return torch.arange(count) % batch_size(batch)
    return (batch["labels"] != IGNORED_LABEL).nonzero()[:, 0].cpu()


def row_positions(
    values: Float[Tensor, "*samples unit"], batch: Batch
) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """The sample and the position within it of every row that a layer writes; of padded texts, some write none."""
    if values.ndim == 3:
        samples, positions = values.shape[:2]
        found = torch.ones(samples, positions, device=values.device).nonzero()
    else:
        found = batch["attention_mask"].nonzero()
    return found[:, 0], found[:, 1]


def mean_per_sample(values: Float[Tensor, " answer"], batch: Batch) -> Float[Tensor, " sample"]:
    """The mean over what is asked of each sample; nan where nothing is."""
    return grouped_mean(sample_indices(batch, len(values)).to(values.device), values, batch_size(batch))


def grouped_mean(
    sample: Int[Tensor, " answer"], values: Float[Tensor, " answer"], count: int
) -> Float[Tensor, " sample"]:
    """The mean of what belongs to each of `count` samples; nan where nothing does."""
    sums, counts = (values.new_zeros(count).index_add(0, sample, each) for each in (values, torch.ones_like(values)))
    return sums / counts


def validation_split(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Batches to fit with, and every fifth one to choose with; a few large ones are cut first."""
    if len(batches) < VALIDATION_EVERY:
        batches = [
            {name: values[start::VALIDATION_EVERY] for name, values in batch.items()}
            for batch in batches
            for start in range(min(VALIDATION_EVERY, batch_size(batch)))
        ]
    return [batch for index, batch in enumerate(batches) if index % VALIDATION_EVERY], list(batches[::VALIDATION_EVERY])
