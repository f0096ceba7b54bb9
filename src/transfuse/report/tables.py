"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path as File
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from transfuse.base.printable import printable
from transfuse.base.sizes import format_bytes

if TYPE_CHECKING:
    from transfuse.evaluation.comparison import Evaluation
    from transfuse.evaluation.evaluate import LossPath
    from transfuse.evaluation.metrics import ClassReport
    from transfuse.evaluation.statistics import Difference, Interval
    from transfuse.fusion.compare import Comparison
    from transfuse.fusion.plan import FusionPlan, Kind, Model

NAMED = 8  # files in a line of the terminal


def fusion_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Where the fused model is, how it came about, and how long that took."""
    samples = record["calibration_samples"]
    evidence = record["evidence"] + (f" of {samples} samples" if samples else "")
    by = "" if record["options"]["align"] == "none" else f", evidence {evidence}"
    fitted = ", layers fitted by least squares" if "least_squares" in record else ""
    if course := record.get("learned_weights"):
        fitted += ", weights learned" if course["best"] else ", nothing gained by learning weights"
    return printable(
        f"Fused {len(record['models'])} models into {output}"
        f" (align {record['options']['align']}{by}{fitted}, {record['seconds']:.1f} s)"
    ) + _left_out(record)


def training_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Where the fine-tuned model is, and how long that took."""
    taught = f", {len(record['teachers'])} teachers" if record["teachers"] else ""
    first, last = (record["losses"][index][1] for index in (0, -1))
    return printable(
        f"Fine-tuned {record['finetuned']['path']} into {output} ({record['steps']} steps on {record['samples']}"
        f" samples{taught}, loss {first:.3f} to {last:.3f}, {record['seconds']:.1f} s)"
    ) + _left_out(record)


def _left_out(record: Mapping[str, Any]) -> str:
    """Return a second line about the anchor's files that were not copied; empty where there are none."""
    names, parts = record.get("left_out", []), []
    naming = {key: files for key in ("auto_map", "custom_pipelines") if (files := record.get(f"{key}_dropped"))}
    if names:
        anchor = record["finetuned"] if "finetuned" in record else record["models"][0]
        more = f" and {record['left_out_count'] - NAMED} more" if record["left_out_count"] > NAMED else ""
        parts.append(f"Not copied from {anchor['path']}: {', '.join(names[:NAMED])}{more}.")
    if naming:
        dropped = " and ".join(f"{key} from {', '.join(files)}" for key, files in naming.items())
        parts.append(f"Dropped {dropped}: the code {'they name' if len(naming) > 1 else 'it names'} is not copied.")
    return "\n" + printable(" ".join(parts)) if parts else ""


FORMATS = {"accuracy": ".2%", "loss": ".4f", "perplexity": ".2f", "calibration_error": ".2%"}


def evaluation_tables(found: Evaluation, classes: bool = False) -> Group:
    """One row per model; below, how the first differs from the others, and if wanted every class."""
    parts: list[Any] = [metrics_table(found)]
    if found.against:
        parts.append(_differences(next(iter(found.models)), found.against))
    if classes:
        parts += [_grades(name, each.classes) for name, each in found.models.items() if each.classes]
    return Group(*parts)


def metrics_table(found: Evaluation) -> Table:
    """One row per model, one column per measure, with its 95 % interval where there is one."""
    measures = (*found.measures, "calibration_error")
    titles = [*found.measures, "ECE"]
    table = Table(
        named(),
        *map(right, (*titles, "words" if "perplexity" in measures else "samples")),
        caption_justify="left",
        caption=Text("[low, high]: 95 % interval; ECE: expected calibration error"),
    )
    for name, each in found.models.items():
        cells = []
        for measure in measures:
            cell = format(getattr(each.metrics, measure), FORMATS[measure])
            if measure in ("accuracy", "loss"):
                cell += "\n" + _interval(getattr(each.certainty, measure), FORMATS[measure])
            cells.append(Text(cell))
        table.add_row(Text(printable(name)), *cells, str(each.metrics.samples))
    return table


def _differences(first: str, against: Mapping[str, Difference]) -> Table:
    """How `first` differs from each other model."""
    judged = any(each.accuracy_p is not None for each in against.values())
    columns = ("accuracy", *(["p"] if judged else []), "loss", "p")
    tests = "McNemar's test, permutation test" if judged else "permutation test"
    table = Table(
        named(),
        *map(right, columns),
        title=Text(f"{printable(first)}, compared with"),
        title_justify="left",
        caption=Text(f"[low, high]: 95 % interval; p: {tests}"),
        caption_justify="left",
    )
    for name, each in against.items():
        table.add_row(
            Text(printable(name)),
            Text(f"{each.accuracy:+.2%}\n{_interval(each.accuracy_interval, '+.2%')}"),
            *(["" if each.accuracy_p is None else probability(each.accuracy_p)] if judged else []),
            Text(f"{each.loss:+.4f}\n{_interval(each.loss_interval, '+.4f')}"),
            probability(each.loss_p),
        )
    return table


def _grades(name: str, classes: Mapping[str, ClassReport]) -> Table:
    table = Table(
        Column("class", overflow="fold"),
        *map(right, ("precision", "recall", "F1", "samples")),
        title=Text(printable(name)),
        title_justify="left",
    )
    for label, each in classes.items():
        shares = [f"{value:.1%}" for value in (each.precision, each.recall, each.f1)]
        table.add_row(Text(printable(label)), *shares, str(each.support))
    return table


def probability(p: float) -> str:
    """A p-value; below a thousandth, where a permutation test knows no more, only that."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _interval(found: Interval | None, how: str) -> str:
    """With a digit less than the value, and without its unit."""
    if found is None:
        return ""
    low, high = found if how.endswith("f") else (100 * end for end in found)
    shorter = ("+" if how.startswith("+") else "") + (".3f" if how.endswith("f") else ".1f")
    return f"[{low:{shorter}}, {high:{shorter}}]"


def path_table(line: LossPath) -> Table:
    """One row per point; the barrier below."""
    caption = f"barrier {line.barrier:.4f} nats"
    table = Table(*(right(name) for name in ("position", "accuracy", "loss")), caption=caption, caption_justify="left")
    for position, point in zip(line.positions, line.points, strict=True):
        table.add_row(f"{position:.2f}", f"{point.accuracy:.2%}", f"{point.loss:.4f}")
    return table


def outlook_table(found: FusionPlan) -> Group:
    """What would be matched; below, what it takes."""
    way = "read and written tensor by tensor" if found.streams else "loaded"
    other = "" if found.streamed_bytes is None else f" (tensor by tensor {format_bytes(found.streamed_bytes)})"
    memory = (
        format_bytes(found.streamed_bytes)
        if found.streams and found.streamed_bytes
        else format_bytes(found.loaded_bytes)
    )
    lines = [
        f"blocks: {found.blocks}, paired in order",
        f"models: {way}",
        f"memory: about {memory}{'' if found.streams else other}",
        f"disk: {format_bytes(found.output_bytes)}, and {format_bytes(found.map_bytes)} for maps while it runs",
    ]
    spaces = [spaces_table(found.spaces)] if found.spaces else []
    return Group(models_table(found.models), *spaces, "\n".join(lines))


def models_table(models: Sequence[Model]) -> Table:
    """One row per checkpoint: how large it is."""
    table = Table(named(), *(right(name) for name in ("parameters", "on disk")))
    for model in models:
        table.add_row(Text(printable(model.path)), f"{model.parameters:,}", format_bytes(model.bytes))
    return table


def spaces_table(kinds: Sequence[Kind], more: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Table:
    """One row per kind of space; `more`: further columns, a text for each kind."""
    sizes = (right(name) for name in ("how many", "size", "maps in each"))
    table = Table("units of", *sizes, "mapped by", *(right(name) for name in more))
    for index, kind in enumerate(kinds):
        inside = str(prod(kind.inside)) if kind.inside else ""
        texts = (column[index] for column in more.values())
        table.add_row(kind.name, str(kind.count), str(kind.units), inside, kind.group, *texts)
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Every way beside its controls."""
    table = Table(named(), *(right(name) for name in ("accuracy", "loss", "barrier", "seconds")))
    for row in comparison.rows:
        barrier = "" if row.barrier is None else f"{row.barrier:.3f}"
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.name, f"{row.metrics.accuracy:.2%}", f"{row.metrics.loss:.4f}", barrier, seconds)
    return table


def named() -> Column:
    """The column of models: a path is folded, never cut."""
    return Column("model", overflow="fold")


def right(name: str) -> Column:
    """A column of numbers."""
    return Column(name, justify="right", no_wrap=True)
