"""Training targets that recur, kept on the device while there is room, and then in the memory of the host."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from transfuse.base.batch import Batch
from transfuse.base.batch_cache import BatchCache, Sized
from transfuse.base.budget import FREE_SHARE, free_bytes


class Movable(Sized, Protocol):
    """A value whose tensors can be moved."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the same value with `change` applied to every tensor."""
        ...


T = TypeVar("T", bound=Movable)


class TargetCache:
    """Cache one result for each of the given batches; results for any other batch are computed each time."""

    def __init__(
        self, batches: Iterable[Batch], capacity: int, device: torch.device, host_capacity: int | None = None
    ) -> None:
        """Create an empty cache.

        Args:
            batches: batches that are identified by object.
            capacity: bytes that all results on `device` together may take.
            host_capacity: the same on the host. None: a share of its free memory for a GPU, and nothing otherwise.
        """
        if host_capacity is None:
            host_capacity = free_bytes(torch.device("cpu")) // FREE_SHARE if device.type == "cuda" else 0
        self.device = device
        self.on_device = BatchCache(batches, capacity)
        self.on_host: dict[int, Any] = {}
        self.host_capacity = host_capacity

    def add(self, batch: Batch) -> None:
        """Cache the result for one more batch."""
        self.on_device.add(batch)

    def get_or_compute(self, batch: Batch, compute: Callable[[Batch], T]) -> T:
        """Return the cached result for a batch, or compute it, and cache it while there is room."""
        return self.on_device.get_or_compute(batch, partial(self._get_from_host, compute))

    def _get_from_host(self, compute: Callable[[Batch], T], batch: Batch) -> T:
        """Return the result for a batch that is not cached on the device."""
        key = id(batch)
        if key in self.on_host:
            cached: T = self.on_host[key].map(lambda values: values.to(self.device, non_blocking=True))
            return cached
        result = compute(batch)
        size = result.nbytes
        if key in self.on_device.batches and self.on_device.capacity < size <= self.host_capacity:
            self.on_host[key] = result.map(_host_copy)
            self.host_capacity -= size
        return result


def _host_copy(values: Tensor) -> Tensor:
    """Return a copy on the host, in pinned memory if it comes from a GPU, so that it returns without delay."""
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=values.is_cuda).copy_(values, non_blocking=True)
