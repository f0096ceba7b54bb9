"""Axes taken apart: the spaces that they mention, with modes, and the terms of concatenations."""

from enum import StrEnum

from transfuse.network.operations import Axes
from transfuse.network.space import Axis, Concat, Diagonal, Directed, Dual, Product, Space


def without_direction(axis: Axis) -> Axis:
    """Return the axis without `Dual` and `Diagonal` around it."""
    return without_direction(axis.axis) if isinstance(axis, Directed) else axis


def fixed_dimensions(axes: Axes, space: str) -> list[int]:
    """Return the dimensions of a tensor that index the units of a fixed space, such as tokens or classes."""
    return [dimension for dimension, axis in enumerate(axes) if getattr(without_direction(axis), "name", "") == space]


class Mode(StrEnum):
    """How a tensor uses a space."""

    WRITES = "writes"
    READS = "reads"
    SCALES = "scales"
    SCALES_BACK = "scales what reads"

    @property
    def diagonal(self) -> bool:
        """Whether the tensor has a factor per unit."""
        return self in (Mode.SCALES, Mode.SCALES_BACK)


OPPOSITE = {
    Mode.WRITES: Mode.READS,
    Mode.READS: Mode.WRITES,
    Mode.SCALES: Mode.SCALES_BACK,
    Mode.SCALES_BACK: Mode.SCALES,
}


def leaves(axis: Axis, mode: Mode = Mode.WRITES) -> list[tuple[Space, Mode]]:
    """Return the spaces of an axis in memory order, each with its mode.

    Raises:
        TypeError: the axis contains a concatenation, which `layout.unfused` removes.
    """
    match axis:
        case Space():
            return [(axis, mode)]
        case Dual():
            return leaves(axis.axis, OPPOSITE[mode])
        case Diagonal():
            return leaves(axis.axis, Mode.SCALES)
        case Product():
            return [leaf for factor in axis.factors for leaf in leaves(factor, mode)]
    raise TypeError(f"{axis} is a concatenation of spaces; apply `unfused` to the declaration first")


Term = tuple[list[int], Axis]  # entries along the axis in memory order, and an axis without `+`


def axis_terms(axis: Axis) -> list[Term]:
    """Expand an axis into terms without `+`, each with its entries along the axis."""
    match axis:
        case Concat():
            return _terms_of_concat(axis)
        case Directed():
            return [(entries, type(axis)(term)) for entries, term in axis_terms(axis.axis)]
        case Product():
            return _terms_of_product(axis)
    return [(list(range(axis.size)), axis)]


def _terms_of_concat(axis: Concat) -> list[Term]:
    terms: list[Term] = []
    start = 0
    for part in axis.parts:
        terms += [([start + entry for entry in entries], term) for entries, term in axis_terms(part)]
        start += part.size
    return terms


def _terms_of_product(axis: Product) -> list[Term]:
    products: list[tuple[list[int], tuple[Axis, ...]]] = [([0], ())]
    for factor in axis.factors:
        size = factor.size
        products = [
            ([outer * size + inner for outer in outer_entries for inner in entries], (*factors, term))
            for outer_entries, factors in products
            for entries, term in axis_terms(factor)
        ]
    return [(entries, Product(factors)) for entries, factors in products]
