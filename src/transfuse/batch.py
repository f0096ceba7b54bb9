"""A batch: what a model takes, and the labels that stand beside it."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

Batch = Mapping[str, Tensor]
MISSING = -100
"""Label of what has no answer: the index that `torch.nn.functional.cross_entropy` ignores."""
HELD_OUT = 5  # every fifth batch


def cast(batch: Batch, dtype: torch.dtype) -> dict[str, Tensor]:
    """The batch with its real numbers in this precision; ids and masks stay."""
    return {name: values.to(dtype) if values.is_floating_point() else values for name, values in batch.items()}


def unlabelled(batch: Batch) -> dict[str, Tensor]:
    """What a model is given of a batch to predict from."""
    return {name: values for name, values in batch.items() if name != "labels"}


def answers(batch: Batch) -> Int[Tensor, " sample"]:
    """The labels of the samples; of language, those of the tokens that were hidden, [batch, token] flattened."""
    labels = batch["labels"]
    return labels if labels.ndim == 1 else labels[labels != MISSING]


def digest(batches: Sequence[Batch]) -> str:
    """SHA-256 of everything in them, in order."""
    found = hashlib.sha256()
    for batch in batches:
        for name, values in sorted(batch.items()):
            found.update(name.encode() + repr(tuple(values.shape)).encode())
            found.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def asked(batch: Batch, count: int) -> Int[Tensor, " answer"]:
    """Which sample each of `count` rows of scores is about: one a sample, several in turn, or every asked word."""
    size, labels = len(next(iter(batch.values()))), batch.get("labels")
    if labels is None or labels.ndim == 1:
        return torch.arange(count) % size
    return (labels != MISSING).nonzero()[:, 0].cpu()


def held_out(batches: Sequence[Batch]) -> tuple[list[Batch], list[Batch]]:
    """Batches to fit with, and every fifth one to choose with; a few large ones are cut first."""
    if len(batches) < HELD_OUT:
        batches = [
            {name: values[start::HELD_OUT] for name, values in batch.items()}
            for batch in batches for start in range(min(HELD_OUT, len(next(iter(batch.values())))))
        ]  # fmt: skip
    return [batch for index, batch in enumerate(batches) if index % HELD_OUT], list(batches[::HELD_OUT])
