"""Batches: the inputs of a model as named tensors, with labels where there are any."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

Batch = Mapping[str, Tensor]
IndexedBatch = tuple[Int[Tensor, " sample"], Batch]
"""Some samples of a batch: their indices in it, and their tensors."""
IGNORED_LABEL = -100
"""Label of positions without a target: the index that `torch.nn.functional.cross_entropy` ignores."""
IMAGE_PARTS = ("vision_model", "visual_projection")  # of models that also read texts
CROSS_ATTENTION = ("EncDecAttention", "encoder_attn")
VALIDATION_EVERY = 5  # every fifth batch validates
MAX_VALIDATION = 1000  # samples that validate


def cast(batch: Batch, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the batch with its floating-point tensors in `dtype`; ids and masks are unchanged."""
    return {name: values.to(dtype) if values.is_floating_point() else values for name, values in batch.items()}


def on_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """Return the batch with its tensors on `device`."""
    return {name: values.to(device) for name, values in batch.items()}


def without_labels(batch: Batch) -> dict[str, Tensor]:
    """Return the inputs of a batch, without its labels and what belongs to them."""
    return {name: values for name, values in batch.items() if not name.startswith("labels")}


def labels_of(batch: Batch) -> Tensor:
    """Return the label of each answer: of each sample, or of each token whose label is not ignored.

    Labels of samples are classes [sample] or numbers [sample, number]; those of answers in texts are the first and the
    last token of each, one after the other.
    """
    if "labels_span" in batch:
        return batch["labels_span"].flatten()
    labels = batch["labels"]
    return labels if is_labeled_per_sample(batch) else labels[labels != IGNORED_LABEL]


def has_targets(batch: Batch) -> bool:
    """Return whether a model predicts anything for this batch: it has no labels, or one that is not ignored."""
    return "labels" not in batch or len(labels_of(batch)) > 0


def is_labeled_per_sample(batch: Batch) -> bool:
    """Return whether predictions are those of samples, as a classifier's are, not one per labeled token."""
    return "labels" not in batch or batch["labels"].ndim == 1 or batch["labels"].is_floating_point()


def answer_count(batch: Batch) -> int:
    """Return how many answers a batch has: one per labeled token, or one per sample if tokens have no labels."""
    return batch_size(batch) if is_labeled_per_sample(batch) else len(labels_of(batch))


def output_mask(batch: Batch) -> Tensor | None:
    """Return the mask of the tokens that a model has outputs for, which are its decoder's if it has one."""
    return batch.get("decoder_attention_mask", batch.get("attention_mask"))


def token_mask(batch: Batch, module: str, shape: Sequence[int]) -> Tensor | None:
    """Return the mask of the tokens of a module's values [sample, token, unit]; None: no token is padding.

    Args:
        module: the name of the module. Modules of a decoder have a mask of their own.
        shape: the shape of the values.
    """
    return next((mask for mask in _token_masks(batch, module) if mask.shape == shape[:2]), None)


def _token_masks(batch: Batch, module: str) -> Iterator[Tensor]:
    """Yield the masks that a module's tokens may have, the likelier one first.

    Patches of images have none. In a decoder, keys and values of cross-attention have that of the encoder.
    """
    parts = module.split(".")
    if parts[0] in IMAGE_PARTS:
        return
    crosses = any(part in CROSS_ATTENTION for part in parts) and parts[-1].startswith(("k", "v"))
    names = ["decoder_attention_mask"] if "decoder" in parts and not crosses else []
    yield from (batch[name] for name in (*names, "attention_mask") if batch.get(name) is not None)


def batch_size(batch: Batch) -> int:
    """Return the number of samples in a batch."""
    return len(next(iter(batch.values())))


def batch_bytes(batch: Batch) -> int:
    """Return the size of a batch in bytes."""
    return sum(values.nbytes for values in batch.values())


def first_samples(batches: Iterable[Batch], count: int) -> Iterator[dict[str, Tensor]]:
    """Yield the first `count` samples in their batches, or all if there are fewer; draw no batch beyond those."""
    for batch in batches:
        first = {name: values[:count] for name, values in batch.items()}
        count -= batch_size(first)
        if batch_size(first):
            yield first
        if not count:
            return


def first_batches(batches: Sequence[Batch], size: Callable[[Batch], int], needed: float) -> Sequence[Batch]:
    """Return the first batches, whose sizes add up to at least `needed`, or all if there are fewer."""
    total = 0
    count = 0
    while count < len(batches) and total < needed:
        total += size(batches[count])
        count += 1
    return batches[:count]


def split_batch(batch: Batch, count: int) -> Iterator[dict[str, Tensor]]:
    """Yield the samples of a batch, `count` at a time."""
    for start in range(0, batch_size(batch), count):
        yield {name: values[start : start + count] for name, values in batch.items()}


def whole_batch(batch: Batch) -> Iterator[IndexedBatch]:
    """Yield the whole batch with the indices of all its samples."""
    yield torch.arange(batch_size(batch)), batch


def group_by_length(batch: Batch, tokens: int) -> Iterator[IndexedBatch]:
    """Yield the texts of a batch in groups of similar length, without the padding at the end of all texts of a group.

    Args:
        tokens: largest number of tokens in a group, padding included; a longer text is a group of its own.
    """
    mask = batch["attention_mask"]
    of_decoder = {name for name in batch if name.startswith("decoder_")} if "decoder_attention_mask" in batch else set()
    labels_by_token = not of_decoder and not is_labeled_per_sample(batch)
    uncut = of_decoder if labels_by_token else of_decoder | {"labels"}  # these have a length of their own
    positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    lengths = (mask * positions).amax(1).clamp_min(1).cpu()
    order = lengths.argsort(stable=True)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and int(lengths[order[end]]) * (end + 1 - start) <= tokens:
            end += 1
        indices = order[start:end]
        width = int(lengths[order[end - 1]])
        rows = {name: values[indices.to(values.device)] for name, values in batch.items()}
        yield (
            indices,
            {
                name: values[:, :width] if values.shape[1:] == mask.shape[1:] and name not in uncut else values
                for name, values in rows.items()
            },
        )
        start = end


def sample_indices(batch: Batch, count: int) -> Int[Tensor, " answer"]:
    """Return the index of the sample that each of `count` rows of outputs belongs to.

    Rows are one per sample, or as many for each, or one per token whose label, or whose mask, is not ignored. Those of
    a sample are consecutive.
    """
    if not is_labeled_per_sample(batch):
        return (batch["labels"] != IGNORED_LABEL).nonzero()[:, 0].cpu()
    mask = output_mask(batch)
    samples = batch_size(batch)
    if mask is not None and count != samples and count == int(mask.sum()):
        return mask.nonzero()[:, 0].cpu()
    return torch.arange(count) // max(1, count // samples)


def row_positions(
    values: Float[Tensor, "*samples unit"], batch: Batch, module: str
) -> tuple[Int[Tensor, " row"], Int[Tensor, " row"]]:
    """Return the sample and the position of every row of what a module reads or writes.

    Where padding was dropped, there are rows [row, unit] for the tokens of a mask only.

    Args:
        module: the name of the module, as for `token_mask`.
    """
    if values.ndim == 3:
        samples, positions = values.shape[:2]
        indices = torch.ones(samples, positions, device=values.device).nonzero()
    else:
        masks = _token_masks(batch, module)
        indices = next(rows for mask in masks if len(rows := mask.nonzero()) == len(values))
    return indices[:, 0], indices[:, 1]


def mean_per_sample(values: Float[Tensor, " answer"], batch: Batch) -> Float[Tensor, " sample"]:
    """Return the mean of `values`, one per prediction, for each sample; NaN for a sample without predictions."""
    return grouped_mean(sample_indices(batch, len(values)).to(values.device), values, batch_size(batch))


def grouped_mean(
    sample: Int[Tensor, " answer"], values: Float[Tensor, " answer"], count: int
) -> Float[Tensor, " sample"]:
    """Return the mean of the `values` that belong to each of `count` samples; NaN for a sample without values."""
    sums = values.new_zeros(count).index_add(0, sample, values)
    counts = values.new_zeros(count).index_add(0, sample, torch.ones_like(values))
    return sums / counts


def validation_split(
    batches: Sequence[Batch], usable: Callable[[Batch], bool] = lambda batch: True
) -> tuple[list[Batch], list[Batch]]:
    """Split batches into training and validation batches; every fifth one validates, up to 1,000 samples.

    Fewer than five batches are first cut into five each.

    Args:
        usable: whether a batch, or a part of one, counts; the others are left out.
    """
    if len(batches) < VALIDATION_EVERY:
        batches = [
            {name: values[start::VALIDATION_EVERY] for name, values in batch.items()}
            for batch in batches
            for start in range(min(VALIDATION_EVERY, batch_size(batch)))
        ]
    batches = [batch for batch in batches if usable(batch)]
    validation: list[Batch] = list(first_samples(batches[::VALIDATION_EVERY], MAX_VALIDATION))
    chosen = VALIDATION_EVERY * len(validation)
    training = [batch for index, batch in enumerate(batches) if index % VALIDATION_EVERY or index >= chosen]
    return training, validation
