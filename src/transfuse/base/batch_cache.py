"""Results for batches that are used again, cached up to a memory limit."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from transfuse.base.batch import Batch


class Sized(Protocol):
    """A value that reports its size in memory."""

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        ...


T = TypeVar("T", bound=Sized)


class BatchCache:
    """Cache one result for each of the given batches; results for any other batch are computed each time."""

    def __init__(self, batches: Iterable[Batch], capacity: int) -> None:
        """Create an empty cache.

        Args:
            batches: batches that are identified by object; the cache keeps them alive, so that no id is used again.
            capacity: bytes that all results together may take.
        """
        self.batches = {id(batch): batch for batch in batches}
        self.capacity = capacity
        self.results: dict[int, Any] = {}

    def add(self, batch: Batch) -> None:
        """Cache the result for one more batch."""
        self.batches[id(batch)] = batch

    def get_or_compute(self, batch: Batch, compute: Callable[[Batch], T]) -> T:
        """Return the cached result for a batch, or compute it, and cache it while there is room."""
        key = id(batch)
        if key in self.results:
            cached: T = self.results[key]
            return cached
        result = compute(batch)
        if key in self.batches and result.nbytes <= self.capacity:
            self.results[key] = result
            self.capacity -= result.nbytes
        return result
