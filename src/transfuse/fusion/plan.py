"""What `transfuse plan` tells: which units would be matched, and what that would take."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from transfuse.fusion.cost_model import Estimate, rates
from transfuse.network.space import Space

BLOCK = re.compile(r"(^|\.)(\d+)\.")  # in the name of a space


@dataclass(frozen=True)
class Kind:
    """Spaces that differ only in where they stand.

    Attributes:
        name: what their names share; `count`: how many there are.
        group: what maps them: an exact group, or a transport plan.
        inside: the units of the spaces around each, so many maps it has.
    """

    name: str
    units: int
    group: str
    inside: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Model:
    """A checkpoint, as its header says."""

    path: str
    architecture: str
    parameters: int
    bytes: int


@dataclass(frozen=True)
class FusionPlan:
    """What a fusion would do and take.

    Attributes:
        blocks: of every model, paired in order, the first with the first.
        loaded_bytes: peak memory with the models in memory; `streamed_bytes`: tensor by tensor, where that can be.
        streams: whether it would be done so.
        map_bytes: on disk while it runs, and in a cache.
    """

    models: tuple[Model, ...]
    blocks: int
    spaces: tuple[Kind, ...]
    loaded_bytes: int
    streamed_bytes: int | None
    streams: bool
    output_bytes: int
    map_bytes: int
    seconds: float


def fusion_plan(paths: Sequence[str], cost: Estimate, streamable: bool, streams: bool) -> FusionPlan:
    """Of models at `paths`, which can stay in their files, and would."""
    flow = f"{cost.options.plan} plan" if cost.options.align == "flow" else None
    numbers = [int(found[0]) for name in cost.spec.spaces() if (found := re.findall(r"\d+", name))]
    return FusionPlan(
        tuple(header(path, model) for path, model in zip(paths, cost.models, strict=True)),
        max(numbers, default=-1) + 1,
        tuple(by_kind(cost.matched, flow)),
        cost.loaded,
        cost.streamed if streamable else None,
        streams,
        cost.output_bytes,
        cost.map_bytes,
        cost.labour.takes(rates()),
    )


def header(path: str, model: PreTrainedModel) -> Model:
    """What a checkpoint's header says, of a model with or without its data."""
    count = model.num_parameters()
    return Model(path, type(model).__name__, count, count * model.dtype.itemsize)


def by_kind(spaces: Iterable[Space], mapped_by: str | None = None) -> dict[Kind, tuple[Space, ...]]:
    """Spaces that differ only in where they stand, together. `mapped_by`: where it is not each one's exact group."""
    found: dict[tuple[str, int, str, tuple[int, ...]], list[Space]] = {}
    for space in spaces:
        inside = tuple(parent.units for parent in space.ancestors())
        found.setdefault((kind(space.name), space.units, mapped_by or str(space.group), inside), []).append(space)
    return {Kind(*kind, count=len(alike)): tuple(alike) for kind, alike in found.items()}


def kind(name: str) -> str:
    """The name of a space without the number of its block."""
    return BLOCK.sub(r"\1", name)
