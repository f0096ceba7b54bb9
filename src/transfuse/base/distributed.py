"""Several processes on one fusion, as torchrun or `accelerate launch` start them: which one this is, what all share.

Each has all models and its share of the samples and of the spaces; sums are added up over all of them, results
gathered. One process alone does everything, and none of this.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, distributed

from transfuse.errors import TransfuseError

T = TypeVar("T")
LOST = ("onnection", "peer", "imed out", "ncclRemoteError", "process group")  # in errors of a process that is gone
PATIENCE = timedelta(hours=12)  # while another process writes; one that has ended is noticed at once


@dataclass(frozen=True)
class ProcessGroup:
    """One of `count` processes."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0

    def shard(self, items: Iterable[T]) -> Iterator[T]:
        """Its own part of them."""
        return islice(items, self.rank, None, self.count)

    def all_gather(self, found: T) -> list[T]:
        """What every process found, in their order. Raises `TransfuseError` if one has ended."""
        if self.count == 1:
            return [found]
        every: list[T | None] = [None] * self.count
        with _together():
            distributed.all_gather_object(every, found)
        return every  # type: ignore[return-value]

    def all_equal(self, found: str | None) -> bool:
        """Whether all found something, and the same. Raises `TransfuseError` if one has ended."""
        every = self.all_gather(found)
        return found is not None and every.count(found) == len(every)

    def all_reduce(self, tensors: Sequence[Tensor] | None) -> list[Tensor]:
        """The sum over all processes, tensor by tensor; None: this one has nothing to add.

        Raises `TransfuseError` if one has ended, or if none has anything.
        """
        if self.count == 1:
            assert tensors is not None
            return list(tensors)
        kinds = self.all_gather(None if tensors is None else [(values.shape, values.dtype) for values in tensors])
        known = next((kind for kind in kinds if kind is not None), None)
        if known is None:
            raise TransfuseError("no process of this run has any samples; give more")
        own = tensors or [torch.zeros(shape, dtype=dtype) for shape, dtype in known]
        found = [values.to(self.device).contiguous() for values in own]  # NCCL knows no tensors on the CPU
        with _together():
            for values in found:
                distributed.all_reduce(values)
        return [values.to(each.device) for values, each in zip(found, own, strict=True)]

    def barrier(self) -> None:
        """Until all are here. Raises `TransfuseError` if one has ended."""
        self.all_gather(None)


@contextmanager
def _together() -> Iterator[None]:
    """Turns the many errors of a lost process into one."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in LOST):
            raise
        raise TransfuseError("another process of this run has ended, so this one does too; see its message") from error


@cache
def process_group() -> ProcessGroup:
    """This process among those that were started together; alone where none were."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ProcessGroup()
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    return ProcessGroup(state.process_index, state.num_processes, str(state.device))
