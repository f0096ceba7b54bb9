"""Predict what a fusion matches, and the memory and disk space it takes, from headers and configuration alone."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

from transformers import PreTrainedModel

from transfuse.alignment.spec_for import alignment_spec
from transfuse.config.options import Options
from transfuse.network.layout import unfused
from transfuse.network.model import declaration
from transfuse.network.space import Group, Space
from transfuse.network.spec import Spec

SINGLE, DOUBLE = 4, 8  # bytes of a number
START = 600 * 2**20  # bytes that Python, torch and transformers take before anything is read
MATRICES = (Group.ORTHOGONAL, Group.CENTERED, Group.LINEAR, Group.COMPLEX)  # groups whose maps are stored as matrices
BLOCK = re.compile(r"(^|\.)(\d+)\.")  # in the name of a space


@dataclass(frozen=True)
class Kind:
    """Describe spaces that differ only in their block.

    Attributes:
        name: the part that their names share.
        group: what maps them, which is an exact group or a transport plan.
        inside: the units of the spaces around each space; it has a map for every combination of them.
        count: the number of spaces.
    """

    name: str
    units: int
    group: str
    inside: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Model:
    """Describe a checkpoint by its header."""

    path: str
    architecture: str
    parameters: int
    bytes: int


@dataclass(frozen=True)
class FusionPlan:
    """Describe what a fusion would do and take.

    Attributes:
        blocks: the number of blocks of every model; they are paired in order.
        loaded_bytes: peak memory with all models in memory.
        streamed_bytes: peak memory tensor by tensor; None if that is impossible.
        streams: whether the fusion would run tensor by tensor.
        map_bytes: disk space for maps, while the fusion runs and in a cache.
    """

    models: tuple[Model, ...]
    blocks: int
    spaces: tuple[Kind, ...]
    loaded_bytes: int
    streamed_bytes: int | None
    streams: bool
    output_bytes: int
    map_bytes: int


@dataclass(frozen=True)
class Estimate:
    """Estimate the memory and disk space of fusing models by their weights."""

    models: Sequence[PreTrainedModel]
    options: Options

    @cached_property
    def spec(self) -> Spec:
        """Return the declaration of the largest model, as the alignment uses it."""
        largest = max(self.models, key=lambda model: model.num_parameters())
        paper = self.options.flow
        return alignment_spec(unfused(declaration(largest)), self.options.align, paper, self.options.groups)

    @cached_property
    def matched(self) -> list[Space]:
        """Return the spaces for which maps are found."""
        return [] if self.options.align == "none" else list(self.spec.spaces().values())

    @property
    def stored(self) -> int:
        """Return the bytes of a number on disk."""
        return self.models[0].dtype.itemsize

    @property
    def map_bytes(self) -> int:
        """Return the bytes of all maps: for a permutation an index, else one matrix or two."""
        soft = self.options.align == "flow" and self.options.flow.plan != "hard"
        widths_differ = (
            len({model.num_parameters() for model in self.models}) > 1
        )  # else a matrix serves both directions
        entry = SINGLE * (1 + widths_differ) if soft else 0
        return sum(_times(space) * _map_bytes(space, entry) for space in self.matched) * (len(self.models) - 1)

    @property
    def output_bytes(self) -> int:
        """Return the size of the fused checkpoint."""
        written = self.options.torch_dtype()
        return self.models[0].num_parameters() * (written.itemsize if written else self.stored)

    @property
    def loaded(self) -> int:
        """Return the peak memory with all models in memory."""
        count, aligned = len(self.models), bool(self.matched)
        copies = count * self.stored / SINGLE if self.stored < SINGLE else 0.0  # as stored, beside single precision
        copies += count + (3 if aligned else 2)  # the fused model, written, and read again to be verified
        copies += (
            (count - 1 if self.options.align == "flow" else 2 * count - 1) if aligned else 0
        )  # folded, transformed
        largest = max(model.num_parameters() for model in self.models)
        return START + int(copies * largest * SINGLE) + self._matching + self.map_bytes

    @property
    def streamed(self) -> int:
        """Return the peak memory tensor by tensor: for the largest tensor, or for finding the largest map."""
        largest = max(values.numel() for model in self.models for values in model.parameters())
        hard = self.map_bytes if self.options.align == "exact" else 0
        return START + max(4 * largest * SINGLE, self._matching) + hard

    @property
    def _matching(self) -> int:
        """Return the bytes for matching the largest pair of spaces: cross-moments, scores, and the solver's copies."""
        copies = 5 if self.options.align == "flow" else 9
        return copies * DOUBLE * max((space.units for space in self.matched), default=0) ** 2


def fusion_plan(paths: Sequence[str], cost: Estimate, streamable: bool, streams: bool) -> FusionPlan:
    """Return the plan of fusing the models at `paths`.

    Args:
        streamable: whether the models can stay in their files; `streams`: whether they will.
    """
    flow = f"{cost.options.flow.plan} plan" if cost.options.align == "flow" else None
    numbers = [int(found[0]) for name in cost.spec.spaces() if (found := re.findall(r"\d+", name))]
    return FusionPlan(
        models=tuple(header(path, model) for path, model in zip(paths, cost.models, strict=True)),
        blocks=max(numbers, default=-1) + 1,
        spaces=tuple(by_kind(cost.matched, flow)),
        loaded_bytes=cost.loaded,
        streamed_bytes=cost.streamed if streamable else None,
        streams=streams,
        output_bytes=cost.output_bytes,
        map_bytes=cost.map_bytes,
    )


def header(path: str, model: PreTrainedModel) -> Model:
    """Return what a checkpoint's header says about a model, whose tensors may be empty."""
    count = model.num_parameters()
    return Model(path, type(model).__name__, count, count * model.dtype.itemsize)


def by_kind(spaces: Iterable[Space], mapped_by: str | None = None) -> dict[Kind, tuple[Space, ...]]:
    """Group spaces that differ only in their block. `mapped_by` replaces the name of each space's exact group."""
    alike: dict[tuple[str, int, str, tuple[int, ...]], list[Space]] = {}
    for space in spaces:
        inside = tuple(parent.units for parent in space.ancestors())
        alike.setdefault((kind(space.name), space.units, mapped_by or str(space.group), inside), []).append(space)
    return {Kind(*key, count=len(members)): tuple(members) for key, members in alike.items()}


def kind(name: str) -> str:
    """Return the name of a space without the number of its block."""
    return BLOCK.sub(r"\1", name)


def _times(space: Space) -> int:
    """Return the number of maps of a space, one for every combination of units around it."""
    return prod(parent.units for parent in space.ancestors())


def _map_bytes(space: Space, soft: int) -> int:
    """Return the bytes of one map. `soft` is the size of an entry of a soft plan, or zero if the map is hard."""
    if soft:
        return soft * space.units**2
    return DOUBLE * (space.units**2 if space.group in MATRICES else space.units)
