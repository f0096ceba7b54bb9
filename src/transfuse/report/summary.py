"""A report in the terminal: the verdict, the lines between the models, and where the page is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from transfuse.base.printable import printable
from transfuse.evaluation.measures import loss_measure, shown_value
from transfuse.report.tables import number_column

if TYPE_CHECKING:
    from transfuse.evaluation.evaluate import LossPath
    from transfuse.report.facts import Measurement

LINE_STEPS = 4  # of the positions on a line that the terminal shows


def report_summary(verdict: str, measured: Measurement | None, page: Path) -> list[str | Table]:
    """Return the verdict, the loss on the lines between the models if it was measured, and where the page is."""
    lines = [_lines_table(measured.lines)] if measured and measured.lines else []
    return [verdict, *lines, report_line(page)]


def report_line(page: Path) -> str:
    """Return where a report is."""
    return printable(f"Report: {page}")


def _lines_table(lines: Mapping[str, LossPath]) -> Table:
    """Return a table with one row per line: the loss at some positions from the anchor to the other model."""
    positions = next(iter(lines.values())).positions
    shown = sorted({round(step * (len(positions) - 1) / LINE_STEPS) for step in range(LINE_STEPS + 1)})
    title = Text("Loss on the line from the anchor (0) to the other model (1)")
    columns = (number_column(f"{positions[index]:.2g}") for index in shown)
    table = Table("line", *columns, number_column("barrier"), title=title, title_justify="left")
    for name, line in lines.items():
        losses = [*(line.points[index].loss for index in shown), line.barrier]
        loss = loss_measure(line.measures)
        table.add_row(Text(printable(name)), *(shown_value(value, loss, ".3f") for value in losses))
    return table
