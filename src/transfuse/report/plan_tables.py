"""Tables of what a fusion would match and need, in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transfuse.base.counted import counted, counted_sizes
from transfuse.base.printable import printable
from transfuse.base.sizes import format_bytes

if TYPE_CHECKING:
    from transfuse.fusion.planning.parts import DataPlan, MemoryParts
    from transfuse.fusion.planning.plan import FusionPlan, ModelHeader, SpaceKind

from transfuse.report.tables import growth_line, model_column, number_column
from transfuse.report.words import kind_words

PARTS = {  # of memory
    "program": "Python and libraries",
    "models": "models",
    "statistics": "statistics, Gram matrices",
    "caches": "caches",
    "batches": "a batch",
    "training": "training",
    "freed": "freed, kept for reuse",
}


def plan_table(plan: FusionPlan) -> Group:
    """Return tables of the models and of the spaces to be matched, with the memory and disk space below."""
    if plan.streams and plan.streamed_bytes:
        memory = format_bytes(plan.streamed_bytes)
    else:
        memory = format_bytes(plan.loaded_bytes)
        if plan.streamed_bytes is not None and not plan.streams:
            memory += f" (tensor by tensor {format_bytes(plan.streamed_bytes)})"
    loaded = "loaded whole"
    pairs = f"{plan.blocks}, paired in order" if plan.blocks else "none known, so tensors are paired by name"
    lines = [
        "; ".join([f"blocks: {pairs}", *_size_changes(plan)]),
        f"models: {'read and written tensor by tensor' if plan.streams else loaded}",
        f"memory: about {memory}",
        f"disk: {format_bytes(plan.output_bytes)}, and {format_bytes(plan.map_bytes)} for maps while it runs",
    ]
    if plan.adapter_bytes is not None:
        lines[3] += f"; adapter: at most {format_bytes(plan.adapter_bytes)}"
    if plan.data:
        lines[1] = f"models: {'mapped from their files' if plan.streams else loaded}"
        lines[2] = f"memory by weights alone: about {memory}"
        lines += _data_lines(plan.data)
    if plan.growth:
        lines.insert(0, f"result: {growth_line(plan.growth)}")
    if plan.base_correlation is not None:
        lines.insert(0, f"alignment: none, as the models share a base (correlation {plan.base_correlation:.3f})")
    spaces = [spaces_table(plan.spaces)] if plan.spaces else []
    parts = [_parts_table(plan.data.parts)] if plan.data else []
    return Group(models_table(plan.models), *spaces, *parts, "\n".join(lines))


def _size_changes(plan: FusionPlan) -> list[str]:
    """Return how the sizes of models become those of the anchor."""
    return [
        f"{path} goes from {counted_sizes({role: before for role, (before, _) in changes.items()})}"
        f" to {counted_sizes({role: after for role, (_, after) in changes.items()})}"
        for path, changes in plan.size_changes.items()
    ]


def _data_lines(plan: DataPlan) -> list[str]:
    """Return lines on the samples of a fusion and on the memory that it takes."""
    if plan.device_bytes is None:
        peak = format_bytes(plan.host_bytes)
    else:
        peak = f"{format_bytes(plan.device_bytes)} on the GPU, {format_bytes(plan.host_bytes)} on the host"
    return [
        f"samples: {plan.samples:,}, each of up to {counted(plan.tokens, 'token', ',')}",
        f"memory with samples: about {peak}, while {plan.stage}",
        f"at least: {format_bytes(plan.least_bytes)}, with the smallest batches and caches",
    ]


def _parts_table(parts: MemoryParts) -> Table:
    """Return a table of what takes memory at the peak of a fusion with samples."""
    table = Table("memory with samples", number_column("at the peak"))
    for field in fields(parts):
        table.add_row(PARTS[field.name], format_bytes(getattr(parts, field.name)))
    return table


def models_table(models: Sequence[ModelHeader]) -> Table:
    """Return a table with the size of each checkpoint."""
    table = Table(model_column(), *(number_column(name) for name in ("parameters", "on disk")))
    for model in models:
        table.add_row(Text(printable(model.path)), f"{model.parameters:,}", format_bytes(model.bytes))
    return table


def spaces_table(kinds: Sequence[SpaceKind], more: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Table:
    """Return a table with one row per kind of space.

    Args:
        kinds: the kinds of spaces.
        more: further columns by title, each with one text per kind.
    """
    sizes = (number_column(name) for name in ("sets", "units", "maps in a set"))
    table = Table("what is matched", *sizes, "mapped by", *(number_column(name) for name in more))
    for index, kind in enumerate(kinds):
        inside = str(prod(kind.inside)) if kind.inside else ""
        texts = (column[index] for column in more.values())
        table.add_row(kind_words(kind.name), str(kind.count), str(kind.units), inside, kind.group, *texts)
    return table
