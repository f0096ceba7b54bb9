"""Hashes of values and tensors, which identify the inputs of a run and verify stored results, and of samples."""

import hashlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from transfuse.base.batch import IGNORED_LABEL, Batch, split_batch

READ = ("input_ids", "pixel_values", "labels")  # tensors of a batch that all others follow from


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, of a text and named tensors: their names, dtypes, shapes and bytes."""
    sha256 = hashlib.sha256(repr(text).encode())
    for name, values in sorted(tensors.items()):
        stored = values.detach().cpu().contiguous()
        sha256.update(repr((name, str(stored.dtype), tuple(stored.shape))).encode())
        if stored.numel():
            sha256.update(stored.flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def text_digest(text: str) -> str:
    """Return the SHA-256, in hexadecimal, of a text."""
    return digest(text, {})


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hexadecimal, of named tensors."""
    return digest("", tensors)


def samples_digest(batches: Iterable[Batch]) -> str:
    """Return the SHA-256, in hexadecimal, of prepared samples in their order, whatever their batches and padding."""
    samples = (sample for batch in batches for sample in split_batch(batch, 1))
    return text_digest(repr([tensors_digest(_without_padding(sample)) for sample in samples]))


def _without_padding(sample: Batch) -> dict[str, Tensor]:
    """Return what a batch of one sample was made of, without padding."""
    read = {name: sample[name] for name in READ if name in sample}
    if "input_ids" in read and "attention_mask" in sample:
        read["input_ids"] = read["input_ids"][sample["attention_mask"] > 0]
    if "labels" in read and read["labels"].ndim > 1:
        read["labels"] = read["labels"][read["labels"] != IGNORED_LABEL]
    return read
