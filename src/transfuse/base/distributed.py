"""The processes that torchrun or `accelerate launch` starts for one run: the rank of this one, and what all share.

Each process holds all models and its shard of the samples and spaces. Sums are reduced over all processes and results
are gathered. A single process needs no communication.
"""

import atexit
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from io import BytesIO
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, distributed

from transfuse.errors import ConfigError, TransfuseError

T = TypeVar("T")
LOST_PROCESS = ("onnection", "peer", "imed out", "ncclRemoteError", "process group")  # in errors when a peer has ended
TIMEOUT = timedelta(hours=12)  # while another process writes; one that has ended is noticed at once


@dataclass(frozen=True)
class ProcessGroup:
    """One of `count` processes."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def shard(self, items: Iterable[T]) -> Iterator[T]:
        """Return the items of this process: every `count`-th one, from its rank on."""
        return islice(items, self.rank, None, self.count)

    def all_gather(self, item: T) -> list[T]:
        """Return the items of all processes in order of rank. Tensors on a GPU are moved to that of this process.

        Raises:
            TransfuseError: another process has ended.
        """
        if self.count == 1:
            return [item]
        buffer = BytesIO()
        torch.save(item, buffer)
        gathered = [b""] * self.count
        with _one_error_for_lost_process():
            distributed.all_gather_object(gathered, buffer.getvalue())
        kind = torch.device(self.device).type
        devices = {f"{kind}:{index}": self.device for index in range(self.count)}
        return [torch.load(BytesIO(saved), devices, weights_only=False) for saved in gathered]

    def all_equal(self, value: str | None) -> bool:
        """Return whether all processes have the same value, other than None.

        Raises:
            TransfuseError: another process has ended.
        """
        values = self.all_gather(value)
        return value is not None and values.count(value) == len(values)

    def all_reduce(self, tensors: Sequence[Tensor] | None) -> list[Tensor]:
        """Return the sum of each tensor over all processes.

        Args:
            tensors: None if this process has nothing to add.

        Raises:
            TransfuseError: another process has ended, or all of them passed None.
        """
        if self.count == 1:
            assert tensors is not None
            return list(tensors)
        layouts = self.all_gather(None if tensors is None else [_layout(values) for values in tensors])
        layout = next((entry for entry in layouts if entry is not None), None)
        if layout is None:
            raise TransfuseError("no process of this run has any samples; give more samples")
        terms = tensors or [self._zeros(*one) for one in layout]
        sums = [values.to(self.device).contiguous() for values in terms]  # NCCL does not reduce tensors on the CPU
        with _one_error_for_lost_process():
            for values in sums:
                distributed.all_reduce(values)
        return [values.to(term.device) for values, term in zip(sums, terms, strict=True)]

    def _zeros(self, shape: torch.Size, dtype: torch.dtype, kind: str) -> Tensor:
        """Return zeros of a layout of another process, on a device of the same kind."""
        return torch.zeros(shape, dtype=dtype, device=self.device if self.device.startswith(kind) else kind)

    def barrier(self) -> None:
        """Wait until all processes call this.

        Raises:
            TransfuseError: another process has ended.
        """
        self.all_gather(None)


def _layout(values: Tensor) -> tuple[torch.Size, torch.dtype, str]:
    """Return shape, precision and kind of device."""
    return values.shape, values.dtype, values.device.type


@contextmanager
def _one_error_for_lost_process() -> Iterator[None]:
    """Replace the various errors that a lost process causes by one."""
    try:
        yield
    except RuntimeError as error:
        if not any(text in str(error) for text in LOST_PROCESS):
            raise
        raise TransfuseError("another process of this run has ended, so this one ends too; see its message") from error


@cache
def process_group() -> ProcessGroup:
    """Return the group that this process was started in; a group of one if it was started alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ProcessGroup()
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=TIMEOUT)
    atexit.register(state.destroy_process_group)  # or else its threads may abort the process when it ends
    return ProcessGroup(state.process_index, state.num_processes, str(state.device))


def check_one_process(work: str) -> None:
    """Raise `ConfigError` if this run has several processes, which `work` cannot share."""
    if process_group().count > 1:
        raise ConfigError(f"{work} runs in one process; start it without torchrun")


def seconds_since(begin: float) -> float:
    """Return the seconds since a monotonic time by the first process's clock, so that all processes decide alike."""
    return process_group().all_gather(time.monotonic() - begin)[0]
