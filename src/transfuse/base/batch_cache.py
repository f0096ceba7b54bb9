"""What was found of batches that come again, remembered as far as there is room."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from transfuse.base.batch import Batch


class Sized(Protocol):
    """Something that takes memory."""

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        ...


T = TypeVar("T", bound=Sized)


class BatchCache:
    """Of these batches, one finding each; of others, which pass, nothing."""

    def __init__(self, batches: Iterable[Batch], room: int) -> None:
        """`room`: bytes that may be taken."""
        self.batches = {id(batch): batch for batch in batches}  # held, so that no other comes to have their place
        self.room = room
        self.known: dict[int, Any] = {}

    def get_or_compute(self, batch: Batch, find: Callable[[Batch], T]) -> T:
        """What was found of the batch, or else is now."""
        place = id(batch)
        if place in self.known:
            found: T = self.known[place]
            return found
        found = find(batch)
        if place in self.batches and found.nbytes <= self.room:
            self.known[place] = found
            self.room -= found.nbytes
        return found
