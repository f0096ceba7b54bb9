"""Results as tables and summaries for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isnan, prod
from pathlib import Path as File
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from transfuse.base.printable import printable
from transfuse.base.sizes import format_bytes
from transfuse.evaluation.measures import MEASURES, has_confidence, loss_unit, unit

if TYPE_CHECKING:
    from transfuse.evaluation.comparison import Evaluation
    from transfuse.evaluation.evaluate import LossPath
    from transfuse.evaluation.metrics import ClassReport
    from transfuse.evaluation.statistics import Interval
    from transfuse.fusion.compare import Comparison
    from transfuse.fusion.plan import FusionPlan, ModelHeader, SpaceKind
    from transfuse.fusion.plan_parts import DataPlan, MemoryParts

PARTS = {  # of memory
    "program": "Python and libraries",
    "models": "models",
    "statistics": "statistics, Gram matrices",
    "caches": "caches",
    "batches": "a batch",
    "training": "training",
    "freed": "freed, kept for reuse",
}
MAX_FILES = 8  # names in a line of the terminal


def fusion_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Return a line on the fused model: where it is, how it was made, and how long that took."""
    samples = record["calibration_samples"]
    matching = "" if record["options"]["align"] == "none" else f", matched on {record['match_on']}"
    matching += ", as they share a base" if "shared_base" in record else ""
    matching += f", merge {record['merge']}" if "base" in record or record.get("merge") == "slerp" else ""
    merging = ", layers fitted by least squares" if "least_squares" in record else ""
    used = f", {samples} samples" if samples else ""
    if history := record.get("learned_weights"):
        merging = f"{merging}, {_learning(history)}"
    return (
        printable(
            f"Fused {len(record['models'])} models into {output}"
            f" (align {record['options']['align']}{matching}{merging}{used}, {record['seconds']:.1f} s)"
        )
        + _left_out(record)
        + _quality(record)
    )


def _quality(record: Mapping[str, Any]) -> str:
    """Return a line on how good the fused model is, or on how to measure it; empty if the record has none."""
    return "\n" + printable(record["quality"]["verdict"]) if "quality" in record else ""


def _learning(history: Mapping[str, Any]) -> str:
    """Return what learning the weights did: its steps, its start, and the loss on held-out samples."""
    start = history.get("start", "fitted layers")
    gap = min(history["excess"])
    reached = f"{abs(gap):.3f} nats {'above' if gap > 0 else 'below'} the mean of the parents on held-out samples"
    if history["best"]:
        return f"weights learned in {history['steps']} steps from {start}, {reached}"
    return f"nothing gained by learning weights, so the result is {start}, {reached}"


def training_summary(output: File | str, record: Mapping[str, Any]) -> str:
    """Return a line on the fine-tuned model: where it is, how it was trained, and how long that took."""
    teachers = f", {len(record['teachers'])} teachers" if record["teachers"] else ""
    first, last = (record["losses"][index][1] for index in (0, -1))
    return printable(
        f"Fine-tuned {record['finetuned']['path']} into {output} ({record['steps']} steps on {record['samples']}"
        f" samples{teachers}, loss {first:.3f} to {last:.3f}, {record['seconds']:.1f} s)"
    ) + _left_out(record)


def _left_out(record: Mapping[str, Any]) -> str:
    """Return a second line on the anchor's files that were not copied; empty if there are none."""
    parts = []
    names = record.get("left_out", [])
    dropped_keys = {key: files for key in ("auto_map", "custom_pipelines") if (files := record.get(f"{key}_dropped"))}
    if names:
        anchor = record["finetuned"] if "finetuned" in record else record["models"][0]
        more = f" and {record['left_out_count'] - MAX_FILES} more" if record["left_out_count"] > MAX_FILES else ""
        parts.append(f"Not copied from {anchor['path']}: {', '.join(names[:MAX_FILES])}{more}.")
    if dropped_keys:
        dropped = " and ".join(f"{key} from {', '.join(files)}" for key, files in dropped_keys.items())
        parts.append(
            f"Dropped {dropped}: the code {'they name' if len(dropped_keys) > 1 else 'it names'} is not copied."
        )
    return "\n" + printable(" ".join(parts)) if parts else ""


METRICS_NOTE = "[low, high]: 95% interval"
CALIBRATION_NOTE = "; ECE: expected calibration error"


def evaluation_tables(evaluation: Evaluation, classes: bool = False) -> Group:
    """Return the metrics of all models, the first model's differences from the others, and optionally all classes."""
    tables: list[Table] = [metrics_table(evaluation)]
    if evaluation.against:
        tables.append(_difference_table(next(iter(evaluation.models)), evaluation))
    if classes:
        tables += [_class_table(name, model.classes) for name, model in evaluation.models.items() if model.classes]
    return Group(*tables)


def metrics_table(evaluation: Evaluation) -> Table:
    """Return a table with one row per model and one column per measure, with 95% confidence intervals."""
    confident = has_confidence(evaluation.measures)
    measures = (*evaluation.measures, *(["calibration_error"] if confident else []))
    explained = CALIBRATION_NOTE if confident else ""
    table = Table(
        model_column(),
        *map(number_column, (*(MEASURES[measure].title for measure in measures), unit(measures))),
        title=_compared_title(evaluation.compared),
        title_justify="left",
        caption_justify="left",
        caption=Text(f"measured on {_measured_on(evaluation)}\n{METRICS_NOTE}{explained}"),
    )
    for name, model in evaluation.models.items():
        cells = []
        for measure in measures:
            cell = format(model.metrics.value(measure), MEASURES[measure].form)
            if measure not in ("perplexity", "calibration_error"):
                cell += "\n" + _format_interval(model.intervals.interval(measure), MEASURES[measure].form)
            cells.append(Text(cell))
        table.add_row(Text(printable(name)), *cells, str(model.metrics.samples))
    return table


def _measured_on(evaluation: Evaluation) -> str:
    """Return the data that were measured, and their split: "cifar10 (split test)", "texts.test.txt (split test)"."""
    return printable(evaluation.data + (f" (split {evaluation.split})" if evaluation.split else ""))


def _compared_title(name: str | None) -> Text | None:
    """Return the title of a table of agreement with a model; None if models were measured on labels."""
    return None if name is None else Text(f"{printable(name)}, compared without labels with")


def _difference_table(first: str, evaluation: Evaluation) -> Table:
    """Return a table of the first model's differences from each other model."""
    against = evaluation.against
    measures = [measure for measure in evaluation.measures if measure != "perplexity"]
    tested = {
        measure: any(not isnan(difference.of(measure).p) for difference in against.values()) for measure in measures
    }
    tests = "permutation test"
    if has_confidence(measures) and tested["accuracy"]:
        tests = "McNemar's test, permutation test"
    columns = [
        title for measure in measures for title in (MEASURES[measure].title, *(["p"] if tested[measure] else []))
    ]
    table = Table(
        model_column(),
        *map(number_column, columns),
        title=Text(f"{printable(first)}, compared with"),
        title_justify="left",
        caption=Text(f"[low, high]: 95% interval; p: {tests}"),
        caption_justify="left",
    )
    for name, difference in against.items():
        cells: list[Text | str] = []
        for measure in measures:
            change, form = difference.of(measure), f"+{MEASURES[measure].form}"
            cells.append(Text(f"{change.value:{form}}\n{_format_interval(change.interval, form)}"))
            cells += [format_p_value(change.p)] if tested[measure] else []
        table.add_row(Text(printable(name)), *cells)
    return table


def _class_table(name: str, classes: Mapping[str, ClassReport]) -> Table:
    table = Table(
        Column("class", overflow="fold"),
        *map(number_column, ("precision", "recall", "F1", "samples")),
        title=Text(printable(name)),
        title_justify="left",
    )
    for label, report in classes.items():
        shares = [f"{value:.1%}" for value in (report.precision, report.recall, report.f1)]
        table.add_row(Text(printable(label)), *shares, str(report.support))
    return table


def format_p_value(p: float) -> str:
    """Format a p-value. Values below 0.001, near the resolution of a permutation test, are not told apart."""
    if isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _format_interval(interval: Interval | None, value_format: str) -> str:
    """Format an interval with one digit less than its value, and without the percent sign."""
    if interval is None:
        return ""
    low, high = interval if value_format.endswith("f") else (100 * end for end in interval)
    end_format = ("+" if value_format.startswith("+") else "") + (".3f" if value_format.endswith("f") else ".1f")
    return f"[{low:{end_format}}, {high:{end_format}}]"


def path_table(line: LossPath) -> Table:
    """Return a table with one row per position, with the barrier below."""
    measures = [measure for measure in line.measures if measure != "perplexity"]
    caption = f"barrier {line.barrier:.4f}{loss_unit(measures)}"
    columns = (number_column(name) for name in ("position", *(MEASURES[measure].title for measure in measures)))
    table = Table(*columns, caption=caption, caption_justify="left")
    for position, point in zip(line.positions, line.points, strict=True):
        cells = (format(point.value(measure), MEASURES[measure].form) for measure in measures)
        table.add_row(f"{position:.2f}", *cells)
    return table


def plan_table(plan: FusionPlan) -> Group:
    """Return tables of the models and of the spaces to be matched, with the memory and disk space below."""
    if plan.streams and plan.streamed_bytes:
        memory = format_bytes(plan.streamed_bytes)
    else:
        memory = format_bytes(plan.loaded_bytes)
        if plan.streamed_bytes is not None and not plan.streams:
            memory += f" (tensor by tensor {format_bytes(plan.streamed_bytes)})"
    lines = [
        f"blocks: {plan.blocks}, paired in order",
        f"models: {'read and written tensor by tensor' if plan.streams else 'loaded'}",
        f"memory: about {memory}",
        f"disk: {format_bytes(plan.output_bytes)}, and {format_bytes(plan.map_bytes)} for maps while it runs",
    ]
    if plan.data:
        lines[1] = f"models: {'mapped from their files' if plan.streams else 'loaded'}"
        lines[2] = f"memory by weights alone: about {memory}"
        lines += _data_lines(plan.data)
    if plan.base_correlation is not None:
        lines.insert(0, f"alignment: none, as the models share a base (correlation {plan.base_correlation:.3f})")
    spaces = [spaces_table(plan.spaces)] if plan.spaces else []
    parts = [_parts_table(plan.data.parts)] if plan.data else []
    return Group(models_table(plan.models), *spaces, *parts, "\n".join(lines))


def _data_lines(plan: DataPlan) -> list[str]:
    """Return lines on the samples of a fusion and on the memory that it takes."""
    if plan.device_bytes is None:
        peak = format_bytes(plan.host_bytes)
    else:
        peak = f"{format_bytes(plan.device_bytes)} on the GPU, {format_bytes(plan.host_bytes)} on the host"
    return [
        f"samples: {plan.samples:,} of up to {plan.tokens:,} tokens",
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
    sizes = (number_column(name) for name in ("how many", "size", "maps in each"))
    table = Table("units of", *sizes, "mapped by", *(number_column(name) for name in more))
    for index, kind in enumerate(kinds):
        inside = str(prod(kind.inside)) if kind.inside else ""
        texts = (column[index] for column in more.values())
        table.add_row(kind.name, str(kind.count), str(kind.units), inside, kind.group, *texts)
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Return a table with one row per method and control."""
    table = Table(model_column(), *(number_column(name) for name in ("accuracy", "loss", "barrier", "seconds")))
    for row in comparison.rows:
        barrier = "" if row.barrier is None else f"{row.barrier:.3f}"
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.name, f"{row.metrics.accuracy:.2%}", f"{row.metrics.loss:.4f}", barrier, seconds)
    return table


def model_column() -> Column:
    """Return the column of model names. Long paths are folded, not cut."""
    return Column("model", overflow="fold")


def number_column(name: str) -> Column:
    """Return a column of numbers."""
    return Column(name, justify="right", no_wrap=True)
