"""Tensors that are made when they are asked for, and not kept: a model larger than memory is a mapping as any other."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from torch import Tensor

Tensors = Mapping[str, Tensor]
Materialize = Callable[[Tensors], Tensors]  # what becomes of tensors that are used again: kept, or made anew each time


class Lazy(Mapping[str, Tensor]):
    """A recipe for each tensor; `dict(lazy)` makes all of them at once."""

    def __init__(self, recipes: Mapping[str, Callable[[], Tensor]]) -> None:
        self._recipes = dict(recipes)

    @classmethod
    def of(cls, tensors: Tensors) -> "Lazy":
        """The same tensors, asked for no sooner than these are."""
        return cls({name: partial(tensors.__getitem__, name) for name in tensors})

    def __getitem__(self, name: str) -> Tensor:
        return self._recipes[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._recipes)

    def __len__(self) -> int:
        return len(self._recipes)

    def thunk(self, name: str) -> Callable[[], Tensor]:
        """How a tensor is made, whatever is changed later."""
        return self._recipes[name]

    def replace(self, name: str, tensors: Tensors) -> None:
        """Take a tensor from elsewhere."""
        self._recipes[name] = partial(tensors.__getitem__, name)

    def change(self, name: str, how: Callable[[Tensor], Tensor]) -> None:
        """Do something to a tensor each time, after it is made."""
        before = self._recipes[name]
        self._recipes[name] = lambda: how(before())


def in_memory(tensors: Tensors) -> Tensors:
    """Made once and kept."""
    return dict(tensors)


def as_needed(tensors: Tensors) -> Tensors:
    """Made anew whenever they are asked for."""
    return tensors
