"""Spaces of interchangeable units, and the axes of tensors written as expressions of spaces.

`head * qk` is nested memory order (all channels of head 0, then of head 1), `q + k` is concatenation; `*` does not
distribute over `+`: a fused `head * (q + k + v)` and a fused `head * q + head * k + head * v` are different layouts.
`~axis` reads where `axis` writes; `Diagonal(axis)` holds a factor per unit.
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
    """None: units have an identity, as pixels, positions, classes and words have."""
    PERMUTATION = "permutation"
    """Any order: heads, hidden units, streams that go through norms."""
    SIGNED = "signed permutation"
    """Behind RMSNorm, or an odd activation."""
    ORTHOGONAL = "orthogonal"
    """Rotations and reflections: RMSNorm's residual stream."""
    CENTERED = "centered orthogonal"
    """Orthogonal maps that fix the all-ones vector: LayerNorm's residual stream."""
    COMPLEX = "scaled rotation"
    """Of a plane: what commutes with a rotary position."""
    POSITIVE = "positive scale"
    """Of a single unit: what commutes with ReLU."""
    LINEAR = "linear"
    """Every invertible matrix: channels that only meet their own dual."""


class Axis(ABC):
    """An expression of spaces in memory order."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of entries along the axis."""

    @abstractmethod
    def spaces(self) -> Iterator[Space]:
        """The spaces it mentions, outermost first."""

    @abstractmethod
    def replace(self, change: Callable[[Space], Axis]) -> Axis:
        """The same expression with every space replaced by `change(space)`."""

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
    """Interchangeable units. `within`: one such set inside every unit of another space (channels inside a head)."""

    name: str
    units: int
    group: Group = Group.PERMUTATION
    within: Space | None = None

    @property
    def size(self) -> int:
        return self.units

    @property
    def free(self) -> bool:
        """Whether an alignment may map it."""
        return self.group is not Group.FIXED

    def ancestors(self) -> tuple[Space, ...]:
        """The spaces it lies within, outermost first."""
        return () if self.within is None else (*self.within.ancestors(), self.within)

    @property
    def root(self) -> Space:
        """The outermost space around it, or itself."""
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
    """Spaces one after the other."""

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
class Dual(Axis):
    """Reads the axis: a linear's input, or the keys that meet the queries' channels."""

    axis: Axis

    @property
    def size(self) -> int:
        return self.axis.size

    def spaces(self) -> Iterator[Space]:
        return self.axis.spaces()

    def replace(self, change: Callable[[Space], Axis]) -> Axis:
        return Dual(self.axis.replace(change))

    def __invert__(self) -> Axis:
        return self.axis

    def __str__(self) -> str:
        return f"~({self.axis})"


@dataclass(frozen=True)
class Diagonal(Axis):
    """One factor per unit, neither written nor read: a norm's gain, the scale of a layer."""

    axis: Axis

    @property
    def size(self) -> int:
        return self.axis.size

    def spaces(self) -> Iterator[Space]:
        return self.axis.spaces()

    def replace(self, change: Callable[[Space], Axis]) -> Axis:
        return Diagonal(self.axis.replace(change))

    def __str__(self) -> str:
        return f"diag({self.axis})"


def without_direction(axis: Axis) -> Axis:
    """The axis without its direction."""
    return without_direction(axis.axis) if isinstance(axis, Dual | Diagonal) else axis


class Mode(StrEnum):
    """How a tensor meets a space."""

    WRITES = "writes"
    READS = "reads"
    SCALES = "scales"
    SCALES_BACK = "scales what reads"

    @property
    def diagonal(self) -> bool:
        """Whether the tensor holds a factor per unit."""
        return self in (Mode.SCALES, Mode.SCALES_BACK)


OPPOSITE = {
    Mode.WRITES: Mode.READS,
    Mode.READS: Mode.WRITES,
    Mode.SCALES: Mode.SCALES_BACK,
    Mode.SCALES_BACK: Mode.SCALES,
}


def leaves(axis: Axis, mode: Mode = Mode.WRITES) -> list[tuple[Space, Mode]]:
    """The spaces of an axis without concatenations, in memory order, and how each is met."""
    match axis:
        case Space():
            return [(axis, mode)]
        case Dual():
            return leaves(axis.axis, OPPOSITE[mode])
        case Diagonal():
            return leaves(axis.axis, Mode.SCALES)
        case Product():
            return [leaf for factor in axis.factors for leaf in leaves(factor, mode)]
    raise TypeError(f"{axis} is not one product of spaces; open the declaration first")


Term = tuple[list[int], Axis]


def axis_terms(axis: Axis) -> list[Term]:
    """The terms of an axis without `+`, each with its entries along the axis in memory order."""
    match axis:
        case Concat():
            found: list[Term] = []
            start = 0
            for part in axis.parts:
                found += [([start + entry for entry in entries], term) for entries, term in axis_terms(part)]
                start += part.size
            return found
        case Dual() | Diagonal():
            return [(entries, type(axis)(term)) for entries, term in axis_terms(axis.axis)]
        case Product():
            terms: list[tuple[list[int], tuple[Axis, ...]]] = [([0], ())]
            for factor in axis.factors:
                size = factor.size
                terms = [
                    ([outer * size + inner for outer in before for inner in entries], (*factors, term))
                    for before, factors in terms
                    for entries, term in axis_terms(factor)
                ]
            return [(entries, Product(factors)) for entries, factors in terms]
    return [(list(range(axis.size)), axis)]
