"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from transfuse.sizes import in_words
from transfuse.terminal import printable

if TYPE_CHECKING:
    from transfuse.compare import Comparison
    from transfuse.evaluate import Metrics, Path
    from transfuse.outlook import Outlook


def fusion_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Where the fused model is, how it came about, and how long that took."""
    samples = record["calibration_samples"]
    evidence = record["evidence"] + (f" of {samples} samples" if samples else "")
    by = "" if record["options"]["align"] == "none" else f", evidence {evidence}"
    fitted = ", layers fitted by least squares" if "least_squares" in record else ""
    return printable(
        f"Fused {len(record['models'])} models into {output}"
        f" (align {record['options']['align']}{by}{fitted}, {record['seconds']:.1f} s)"
    )


def training_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Where the fine-tuned model is, and how long that took."""
    taught = f", {len(record['teachers'])} teachers" if record["teachers"] else ""
    first, last = (record["losses"][index][1] for index in (0, -1))
    return printable(
        f"Fine-tuned {record['finetuned']['path']} into {output} ({record['steps']} steps on {record['samples']}"
        f" samples{taught}, loss {first:.3f} to {last:.3f}, {record['seconds']:.1f} s)"
    )


FORMATS = {"accuracy": ".2%", "loss": ".4f", "perplexity": ".2f"}


def metrics_table(found: Mapping[str, Metrics], measures: Sequence[str] = ("accuracy", "loss")) -> Table:
    """One row per model, one column per measure."""
    table = Table(_name(), *(_right(name) for name in (*measures, "samples")))
    for name, metrics in found.items():
        values = [format(getattr(metrics, measure), FORMATS[measure]) for measure in measures]
        table.add_row(Text(printable(name)), *values, str(metrics.samples))
    return table


def path_table(line: Path) -> Table:
    """One row per point; the barrier below."""
    caption = f"barrier {line.barrier:.4f} nats"
    table = Table(*(_right(name) for name in ("position", "accuracy", "loss")), caption=caption, caption_justify="left")
    for position, point in zip(line.positions, line.points, strict=True):
        table.add_row(f"{position:.2f}", f"{point.accuracy:.2%}", f"{point.loss:.4f}")
    return table


def outlook_table(found: Outlook) -> Group:
    """What would be matched; below, what it takes."""
    models = Table(_name(), *(_right(name) for name in ("parameters", "on disk")))
    for model in found.models:
        models.add_row(Text(printable(model.path)), f"{model.parameters:,}", in_words(model.bytes))
    spaces = Table("units of", *(_right(name) for name in ("how many", "size", "maps in each")), "mapped by")
    for kind in found.spaces:
        inside = str(prod(kind.inside)) if kind.inside else ""
        spaces.add_row(kind.name, str(kind.count), str(kind.units), inside, kind.group)
    way = "read and written tensor by tensor" if found.streams else "loaded"
    other = "" if found.streamed_bytes is None else f" (tensor by tensor {in_words(found.streamed_bytes)})"
    memory = in_words(found.streamed_bytes) if found.streams and found.streamed_bytes else in_words(found.loaded_bytes)
    lines = [
        f"blocks: {found.blocks}, paired in order",
        f"models: {way}",
        f"memory: about {memory}{'' if found.streams else other}",
        f"disk: {in_words(found.output_bytes)}, and {in_words(found.map_bytes)} for maps while it runs",
        f"time: about {found.seconds:.0f} s here",
    ]
    return Group(models, *([spaces] if found.spaces else []), "\n".join(lines))


def comparison_table(comparison: Comparison) -> Table:
    """Every way beside its controls."""
    table = Table(_name(), *(_right(name) for name in ("accuracy", "loss", "barrier", "seconds")))
    for row in comparison.rows:
        barrier = "" if row.barrier is None else f"{row.barrier:.3f}"
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.name, f"{row.metrics.accuracy:.2%}", f"{row.metrics.loss:.4f}", barrier, seconds)
    return table


def _name() -> Column:
    return Column("model", overflow="fold")


def _right(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)
