"""What `transfuse landscape` found, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from transfuse.base.printable import printable
from transfuse.report.tables import named, right

if TYPE_CHECKING:
    from transfuse.evaluation.landscape import Landscape


def landscape_table(found: Landscape) -> Table:
    """One row per model of the plane; the best of the grid below."""
    (x, y), least = found.lowest()
    shares = ", ".join(f"{share:.2f}" for share in found.plane.shares(x, y))
    caption = (
        f"least loss of {len(found.x)} x {len(found.y)} points: {least.loss:.4f} at ({x:.1f}, {y:.1f}), shares {shares}"
    )
    numbers = (right(name) for name in ("x", "y", "accuracy", "loss"))
    table = Table(named(), "in A's basis", *numbers, caption=caption, caption_justify="left")
    for model in found.models:
        place = [f"{value:.1f}" for value in model.position]
        values = f"{model.metrics.accuracy:.2%}", f"{model.metrics.loss:.4f}"
        table.add_row(Text(printable(model.path)), model.how, *place, *values)
    return table
