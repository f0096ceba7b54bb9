"""Spaces of interchangeable units, and axes of tensors as expressions of spaces.

`head * qk` is nested memory order: all channels of head 0, then of head 1. `q + k` is concatenation. `*` does not
distribute over `+`, since a fused `head * (q + k + v)` and a fused `head * q + head * k + head * v` are different
layouts. `~axis` reads the units that `axis` writes. `Diagonal(axis)` has a factor per unit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import prod


class Group(StrEnum):
    """The transformations of a space that leave the network's function unchanged."""

    FIXED = "fixed"
    """Only the identity: units have a fixed meaning, as pixels, positions, classes and tokens do."""
    PERMUTATION = "permutation"
    """Permutations: heads, hidden units, streams behind norms with gains."""
    SIGNED = "signed permutation"
    """Permutations with signs: units behind RMSNorm or an odd activation."""
    ORTHOGONAL = "orthogonal"
    """Rotations and reflections: the residual stream of RMSNorm."""
    CENTERED = "centered orthogonal"
    """Orthogonal maps that fix the all-ones vector: the residual stream of LayerNorm."""
    COMPLEX = "scaled rotation"
    """Scaled rotations of a plane, which commute with rotary positions."""
    POSITIVE = "positive scale"
    """Positive factors of a single unit, which commute with ReLU."""
    LINEAR = "linear"
    """All invertible matrices: channels that only interact with their own dual."""

    @property
    def permutes(self) -> bool:
        """Whether its elements are permutations, with or without signs."""
        return self in (Group.PERMUTATION, Group.SIGNED)


class Axis(ABC):
    """An expression of spaces in memory order."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of entries along the axis."""

    @abstractmethod
    def spaces(self) -> Iterator[Space]:
        """Yield the spaces that the axis mentions, outermost first."""

    @abstractmethod
    def replace(self, change: Callable[[Space], Axis]) -> Axis:
        """Return the same expression with every space replaced by `change(space)`."""

    @property
    def is_free(self) -> bool:
        """Whether an alignment may map a space of the axis."""
        return any(space.free for space in self.spaces())

    def __mul__(self, inner: Axis) -> Product:
        left = self.factors if isinstance(self, Product) else (self,)
        return Product((*left, inner))

    def __add__(self, other: Axis) -> Concat:
        left = self.parts if isinstance(self, Concat) else (self,)
        return Concat((*left, other))

    def __invert__(self) -> Axis:
        return Dual(self)


@dataclass(frozen=True)
class Space(Axis):
    """Interchangeable units.

    Attributes:
        within: the outer space if every unit of it contains such a set, as a head contains channels.
    """

    name: str
    units: int
    group: Group = Group.PERMUTATION
    within: Space | None = None

    @property
    def size(self) -> int:
        return self.units

    @property
    def free(self) -> bool:
        """Whether an alignment may map the space."""
        return self.group is not Group.FIXED

    def ancestors(self) -> tuple[Space, ...]:
        """Return the spaces around this one, outermost first."""
        return () if self.within is None else (*self.within.ancestors(), self.within)

    @property
    def instances(self) -> int:
        """The number of such sets: the product of the units of the spaces around it."""
        return prod(outer.units for outer in self.ancestors())

    @property
    def root(self) -> Space:
        """The outermost space around this one, or this one."""
        return (*self.ancestors(), self)[0]

    def spaces(self) -> Iterator[Space]:
        yield self

    def replace(self, change: Callable[[Space], Axis]) -> Axis:
        return change(self)

    def __str__(self) -> str:
        return f"{self.name}[{self.units}]"


@dataclass(frozen=True)
class Product(Axis):
    """Nested spaces, outermost first."""

    factors: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return prod(factor.size for factor in self.factors)

    def spaces(self) -> Iterator[Space]:
        for factor in self.factors:
            yield from factor.spaces()

    def replace(self, change: Callable[[Space], Axis]) -> Axis:
        return Product(tuple(factor.replace(change) for factor in self.factors))

    def __str__(self) -> str:
        return " * ".join(f"({f})" if isinstance(f, Concat) else str(f) for f in self.factors)


@dataclass(frozen=True)
class Concat(Axis):
    """Concatenated spaces."""

    parts: tuple[Axis, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def spaces(self) -> Iterator[Space]:
        for part in self.parts:
            yield from part.spaces()

    def replace(self, change: Callable[[Space], Axis]) -> Axis:
        return Concat(tuple(part.replace(change) for part in self.parts))

    def __str__(self) -> str:
        return " + ".join(map(str, self.parts))


@dataclass(frozen=True)
class Directed(Axis):
    """An axis that does not write: it reads, or it has factors."""

    axis: Axis

    @property
    def size(self) -> int:
        return self.axis.size

    def spaces(self) -> Iterator[Space]:
        return self.axis.spaces()

    def replace(self, change: Callable[[Space], Axis]) -> Axis:
        return type(self)(self.axis.replace(change))


@dataclass(frozen=True)
class Dual(Directed):
    """An axis that reads: the input of a linear map, or the keys that are multiplied with queries."""

    def __invert__(self) -> Axis:
        return self.axis

    def __str__(self) -> str:
        return f"~({self.axis})"


@dataclass(frozen=True)
class Diagonal(Directed):
    """One factor per unit, neither written nor read: the gain of a norm, the scale of a layer."""

    def __str__(self) -> str:
        return f"diag({self.axis})"
