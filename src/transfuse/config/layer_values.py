"""A number for every layer: the same for all, a gradient over the depth, or one of both for each part of the model.

A gradient is a list of numbers, evenly spaced from the first layer to the last and interpolated between them. A mapping
takes the first entry whose key is part of one of the names of a tensor; `*` is part of every name. mergekit's files do
the same.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import isfinite
from typing import Annotated, Any, TypeAlias

from pydantic import PlainSerializer, PlainValidator

Gradient: TypeAlias = float | tuple[float, ...]
EVERYTHING = "*"


def parse_layer_value(value: object) -> Any:
    """Return a number, a tuple of numbers, or a mapping to these, from what a flag, a file or Python gives.

    Raises:
        ValueError: it is none of these, or a number is not finite.
    """
    if isinstance(value, Mapping):
        if not value:
            raise ValueError("should have an entry for some part of the model")
        return {str(name): _gradient(entry) for name, entry in value.items()}
    return _gradient(value)


def _gradient(value: object) -> Gradient:
    if isinstance(value, str) and ":" in value:  # a flag's list
        value = value.split(":")
    if isinstance(value, Sequence) and not isinstance(value, str):
        if not value:
            raise ValueError("a gradient should have one or more numbers")
        return tuple(map(_number, value)) if len(value) > 1 else _number(value[0])
    return _number(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("should be a number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError("should be a number") from None
    if not isfinite(number):
        raise ValueError("should be a finite number")
    return number


LayerValue = Annotated[Any, PlainValidator(parse_layer_value), PlainSerializer(lambda value: value)]


def value_at(value: Any, names: Sequence[str], depth: float) -> float | None:
    """Return the number for one tensor; None if a mapping has no entry for it.

    Args:
        value: as `parse_layer_value` returns it.
        names: the tensor's names.
        depth: from 0, the first layer and what comes before it, to 1, the last layer and what comes after it.
    """
    if isinstance(value, Mapping):
        parts = (part for part in value if part == EVERYTHING or any(part in name for name in names))
        entry = value.get(next(parts, None))
        return None if entry is None else value_at(entry, names, depth)
    if isinstance(value, tuple | list):
        position = depth * (len(value) - 1)
        index = min(int(position), len(value) - 2)
        share = position - index
        return float((1 - share) * value[index] + share * value[index + 1])
    return float(value)


def overall(value: Any) -> float:
    """Return the mean over the depth, and over the entries of a mapping, for what takes one number per model."""
    if isinstance(value, Mapping):
        return sum(map(overall, value.values())) / len(value)
    if isinstance(value, tuple | list):
        between = [(first + second) / 2 for first, second in pairwise(value)]
        return sum(between) / len(between)
    return float(value)


def numbers(value: Any) -> list[float]:
    """Return all numbers of a value."""
    entries = value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return [number for entry in entries for number in numbers(entry)] if entries else [float(value)]


def as_text(value: Any) -> str:
    """Return an item of a list as a flag spells it; of numbers that change over the depth, 0.2:0.8."""
    return ":".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
