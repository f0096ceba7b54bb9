"""What a fusion will take, from headers and configuration alone: memory, whether the models are loaded or streamed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import psutil
from transformers import PreTrainedModel

from transfuse.config import Options
from transfuse.network.layout import opened
from transfuse.network.model import declaration
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec
from transfuse.network.symmetry import symmetric

SINGLE, DOUBLE = 4, 8  # bytes of a number
START = 600 * 2**20  # what Python, torch and transformers take before anything is read


@dataclass(frozen=True)
class Sizes:
    """The sizes that everything follows from.

    Attributes:
        parameters: of one model; `largest`: of its largest tensor.
        stored: bytes of a number on disk.
        widest: units of the largest space whose map is a matrix or is found from one.
    """

    models: int
    parameters: int
    largest: int
    stored: int
    widest: int
    exact: bool


def sizes(models: Sequence[PreTrainedModel], options: Options) -> Sizes:
    """Of models without data."""
    shapes = [tuple(values.shape) for values in models[0].parameters()]
    spec = opened(declaration(models[0]))
    return Sizes(
        len(models), sum(map(prod, shapes)), max(map(prod, shapes)), models[0].dtype.itemsize,
        max((space.units for space in matched(spec, options)), default=0), options.align == "exact",
    )  # fmt: skip


def matched(spec: Spec, options: Options) -> list[Space]:
    """The spaces that maps are found for."""
    if options.align == "none":
        return []
    spaces = symmetric(spec).spaces() if options.align == "exact" else spec.spaces()
    return [space for space in spaces.values() if space.group is not Group.FIXED]


def loaded_bytes(given: Sizes) -> int:
    """Peak memory of a fusion by weights with all models in memory."""
    copies = given.models * given.stored / SINGLE if given.stored < SINGLE else 0.0  # as stored, beside float32
    copies += given.models  # in float32
    copies += (2 * given.models - 1 if given.exact else given.models - 1) if given.widest else 0  # folded, and carried
    copies += 3 if given.widest else 2  # the fused one, written, and read again to verify it
    return START + int(copies * given.parameters * SINGLE) + _matching(given)


def streamed_bytes(given: Sizes) -> int:
    """Peak memory of the same from file to file: the largest tensor on its way, or the largest map being found."""
    carried = 4 * given.largest * SINGLE  # as read, as carried, the other one, and their mean
    return START + max(carried, _matching(given))


def _matching(given: Sizes) -> int:
    """Cross-moments and scores of one pair of spaces, the solver's copies, and the samples they are taken of."""
    square = given.widest**2
    return 5 * square * DOUBLE


def available_bytes() -> int:
    """Memory that is free now."""
    return psutil.virtual_memory().available


def in_words(size: int) -> str:
    """A number of bytes as a user would say it."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
