"""Consecutive items in groups that fit into memory together."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def groups_within(items: Sequence[T], size: Callable[[T], float], room: float) -> Iterator[list[T]]:
    """Yield consecutive items in groups whose sizes add up to at most `room`, at least one item at a time."""
    group: list[T] = []
    taken = 0.0
    for item in items:
        needed = size(item)
        if group and taken + needed > room:
            yield group
            group, taken = [], 0.0
        group.append(item)
        taken += needed
    if group:
        yield group
