"""Tables of measurements in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from transfuse.base.printable import printable
from transfuse.base.shown_number import shown_number
from transfuse.data.files.splits import with_split
from transfuse.evaluation.measures import MEASURES, has_confidence, loss_measure, loss_unit, shown_value, unit

if TYPE_CHECKING:
    from transfuse.evaluation.comparison import Evaluation
    from transfuse.evaluation.evaluate import LossPath
    from transfuse.evaluation.landscape import Landscape
    from transfuse.evaluation.metrics import ClassReport
    from transfuse.fusion.compare import Comparison

from transfuse.report.cells import metric_interval
from transfuse.report.tables import model_column, number_column

METRICS_NOTE = "[low, high]: 95% interval"
CALIBRATION_NOTE = "; ECE: expected calibration error"


def evaluation_tables(evaluation: Evaluation, classes: bool = False) -> Group:
    """Return the metrics of all models, the first model's differences from the others, and optionally all classes."""
    parts: list[Table | Group] = [metrics_table(evaluation)]
    if evaluation.against:
        parts.append(_difference_table(next(iter(evaluation.models)), evaluation))
    if classes:
        parts += [_class_table(name, model.classes) for name, model in evaluation.models.items() if model.classes]
    return Group(*parts)


def metrics_table(evaluation: Evaluation) -> Group:
    """Return a table with one row per model and one column per measure (with 95% intervals), and notes."""
    confident = has_confidence(evaluation.measures)
    measures = (*evaluation.measures, *(["calibration_error"] if confident else []))
    explained = CALIBRATION_NOTE if confident else ""
    table = Table(
        model_column(),
        *map(number_column, (*(MEASURES[measure].title for measure in measures), unit(measures))),
        title=_compared_title(evaluation.compared),
        title_justify="left",
    )
    for name, model in evaluation.models.items():
        cells = []
        for measure in measures:
            cell = shown_value(model.metrics.value(measure), measure, MEASURES[measure].form)
            if measure != "calibration_error":
                cell += "\n" + metric_interval(model.intervals.interval(measure), measure)
            cells.append(Text(cell))
        table.add_row(Text(printable(name)), *cells, str(model.metrics.samples))
    return Group(table, f"measured on {_measured_on(evaluation)}\n{METRICS_NOTE}{explained}")


def _measured_on(evaluation: Evaluation) -> str:
    """Return the data that were measured, and their split: "cifar10 (split test)", "texts.test.txt (split test)"."""
    return printable(with_split(evaluation.data, evaluation.split))


def _compared_title(name: str | None) -> Text | None:
    """Return the title of a table of agreement with a model; None if models were measured on labels."""
    return None if name is None else Text(f"{printable(name)}, compared without labels with")


def _difference_table(first: str, evaluation: Evaluation) -> Group:
    """Return a table of the first model's differences from each other model."""
    against = evaluation.against
    measures = [measure for measure in evaluation.measures if measure != "perplexity"]
    tested = {
        measure: any(not isnan(difference.of(measure).p) for difference in against.values()) for measure in measures
    }
    tests = "permutation test"
    if has_confidence(measures) and "perplexity" not in evaluation.measures:
        tests = "McNemar's test, permutation test"
    columns = [
        title for measure in measures for title in (MEASURES[measure].title, *(["p"] if tested[measure] else []))
    ]
    table = Table(
        model_column(),
        *map(number_column, columns),
        title=Text(f"{printable(first)}, compared with"),
        title_justify="left",
    )
    for name, difference in against.items():
        cells: list[Text | str] = []
        for measure in measures:
            change = difference.of(measure)
            value = shown_value(change.value, measure, f"+{MEASURES[measure].form}")
            cell = f"{value}\n{metric_interval(change.interval, measure, '+')}"
            cells.append(Text("" if isnan(change.value) else cell))
            cells += [format_p_value(change.p)] if tested[measure] else []
        table.add_row(Text(printable(name)), *cells)
    return Group(table, f"[low, high]: 95% interval; p: {tests}")


def _class_table(name: str, classes: Mapping[str, ClassReport]) -> Table:
    table = Table(
        Column("class", overflow="fold"),
        *map(number_column, ("precision", "recall", "F1", "samples")),
        title=Text(printable(name)),
        title_justify="left",
    )
    for label, report in classes.items():
        shares = [shown_number(value, ".1%") for value in (report.precision, report.recall, report.f1)]
        table.add_row(Text(printable(label)), *shares, str(report.support))
    return table


def format_p_value(p: float) -> str:
    """Format a p-value. Values below 0.001, near the resolution of a permutation test, are not told apart."""
    if isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def path_table(line: LossPath, source: str) -> Group:
    """Return a table with one row per position, with the barrier below and the name of the samples."""
    measures = [measure for measure in line.measures if measure != "perplexity"]
    columns = (number_column(name) for name in ("position", *(MEASURES[measure].title for measure in measures)))
    table = Table(*columns)
    for position, point in zip(line.positions, line.points, strict=True):
        cells = (shown_value(point.value(measure), measure, MEASURES[measure].form) for measure in measures)
        table.add_row(f"{position:.2f}", *cells)
    barrier = shown_value(line.barrier, loss_measure(measures), ".4f")
    return Group(table, f"barrier {barrier}{loss_unit(measures)}\nmeasured on {printable(source)}")


def landscape_table(measured: Landscape, source: str) -> Group:
    """Return a table with one row per model, and below it the grid point with the lowest loss and the samples."""
    (x, y), lowest = measured.lowest()
    shares = ", ".join(f"{share:.2f}" for share in measured.plane.shares(x, y))
    size = f"{len(measured.x)} x {len(measured.y)}"
    place = f"at ({x:.1f}, {y:.1f}), with weights {shares} of A, B and C"
    columns = (number_column(name) for name in ("x", "y", "accuracy", "loss"))
    table = Table(model_column(), "alignment to A", *columns)
    for model in measured.models:
        position = [f"{value:.1f}" for value in model.position]
        metrics = [shown_number(model.metrics.accuracy, ".2%"), shown_value(model.metrics.loss, "loss", ".4f")]
        table.add_row(Text(printable(model.path)), model.alignment, *position, *metrics)
    best = f"lowest loss of {size} points: {shown_value(lowest.loss, 'loss', '.4f')} {place}"
    return Group(table, f"{best}\nmeasured on {printable(source)}")


def comparison_table(comparison: Comparison) -> Table:
    """Return a table with one row per method and control."""
    table = Table(model_column(), *(number_column(name) for name in ("accuracy", "loss", "barrier", "seconds")))
    for row in comparison.rows:
        barrier = "" if row.barrier is None else shown_value(row.barrier, "loss", ".3f")
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        metrics = (shown_number(row.metrics.accuracy, ".2%"), shown_value(row.metrics.loss, "loss", ".4f"))
        table.add_row(row.name, *metrics, barrier, seconds)
    return table
