"""What `transfuse plan` tells: which units would be matched, and what that would take."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transfuse.estimate import Estimate, rates


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
class Outlook:
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


def outlook(paths: Sequence[str], cost: Estimate, streamable: bool, streams: bool) -> Outlook:
    """Of models at `paths`, which can stay in their files, and would."""
    models = [
        Model(path, type(model).__name__, model.num_parameters(), model.num_parameters() * model.dtype.itemsize)
        for path, model in zip(paths, cost.models, strict=True)
    ]
    flow = f"{cost.options.plan} plan" if cost.options.align == "flow" else None
    kinds = Counter(
        (_kind(space.name), space.units, flow or str(space.group), tuple(parent.units for parent in space.ancestors()))
        for space in cost.matched
    )
    numbers = [int(found[0]) for name in cost.spec.spaces() if (found := re.findall(r"\d+", name))]
    return Outlook(
        tuple(models), max(numbers, default=-1) + 1,
        tuple(Kind(*kind, count=count) for kind, count in kinds.items()), cost.loaded,
        cost.streamed if streamable else None, streams, cost.output_bytes, cost.map_bytes,
        cost.labour.takes(rates()),
    )  # fmt: skip


def _kind(name: str) -> str:
    """The name without the number of its block."""
    return re.sub(r"(^|\.)\d+\.", r"\1", name)
