"""Tensors that are computed on access and not kept, so that a model larger than memory is an ordinary mapping."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from torch import Tensor

Tensors = Mapping[str, Tensor]
Materialize = Callable[[Tensors], Tensors]
"""Policy for tensors that are used more than once: `in_memory` or `as_needed`."""


class Lazy(Mapping[str, Tensor]):
    """A mapping that computes each tensor when it is accessed; `dict(lazy)` computes all of them."""

    def __init__(self, thunks: Mapping[str, Callable[[], Tensor]]) -> None:
        self._thunks = dict(thunks)

    @classmethod
    def of(cls, tensors: Tensors) -> "Lazy":
        """Return a lazy mapping that reads each tensor from `tensors` when it is accessed."""
        return cls({name: partial(tensors.__getitem__, name) for name in tensors})

    def __getitem__(self, name: str) -> Tensor:
        return self._thunks[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._thunks)

    def __len__(self) -> int:
        return len(self._thunks)

    def thunk(self, name: str) -> Callable[[], Tensor]:
        """Return the function that computes a tensor; later changes of this mapping do not affect it."""
        return self._thunks[name]

    def replace(self, name: str, tensors: Tensors) -> None:
        """Read a tensor from another mapping from now on."""
        self._thunks[name] = partial(tensors.__getitem__, name)

    def change(self, name: str, function: Callable[[Tensor], Tensor]) -> None:
        """Apply a function to a tensor each time it is computed."""
        thunk = self._thunks[name]
        self._thunks[name] = lambda: function(thunk())


def in_memory(tensors: Tensors) -> Tensors:
    """Compute all tensors once and keep them."""
    return dict(tensors)


def as_needed(tensors: Tensors) -> Tensors:
    """Compute tensors again each time they are accessed."""
    return tensors
