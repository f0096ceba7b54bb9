"""Work on batches in parts that fit in memory."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

from transfuse.base.batch import Batch, IndexedBatch, batch_size, split_batch
from transfuse.base.memory_limit import is_out_of_memory

T = TypeVar("T")

Split = Callable[[Batch], Iterable[IndexedBatch]]
"""Splits a batch into the parts that are computed together."""


def run_in_parts(work: Callable[[Batch], T], split: Callable[[Batch], list[Batch]], batch: Batch) -> list[T]:
    """Return the results of `work` for a batch, or for its parts if the whole batch does not fit in memory.

    Args:
        split: cuts a batch into smaller ones; one part or none means that it cannot be cut further.

    Raises:
        RuntimeError: a part that cannot be cut further does not fit.
    """
    try:
        return [work(batch)]
    except (MemoryError, RuntimeError) as error:
        parts = split(batch) if is_out_of_memory(error) else []
        if len(parts) < 2:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [result for part in parts for result in run_in_parts(work, split, part)]


def computed_in_parts(work: Callable[[Batch], T], split: Split, batch: Batch) -> tuple[list[T], Tensor]:
    """Return the results of `work` for the parts of a batch, and the order that gives its samples their places back.

    Parts that do not fit in memory are halved.

    Raises:
        RuntimeError: a single sample does not fit.
    """
    indices, results = [], []
    for index, part in split(batch):
        indices.append(index)
        results += run_in_parts(work, _halves, part)
    return results, torch.cat(indices).argsort()


def _halves(batch: Batch) -> list[Batch]:
    return list(split_batch(batch, -(-batch_size(batch) // 2)))
