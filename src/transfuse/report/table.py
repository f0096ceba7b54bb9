"""Results as tables for the terminal."""

from collections.abc import Mapping

from rich.table import Column, Table

from transfuse.compare import Comparison
from transfuse.evaluate import Metrics, Path


def metrics_table(found: Mapping[str, Metrics]) -> Table:
    """One row per model."""
    table = Table("model", *(_right(name) for name in ("accuracy", "loss", "samples")))
    for name, metrics in found.items():
        table.add_row(name, f"{metrics.accuracy:.2%}", f"{metrics.loss:.4f}", str(metrics.samples))
    return table


def path_table(line: Path) -> Table:
    """One row per point; the barrier below."""
    table = Table(
        *(_right(name) for name in ("position", "accuracy", "loss")), caption=f"barrier {line.barrier:.4f} nats"
    )
    for position, point in zip(line.positions, line.points, strict=True):
        table.add_row(f"{position:.2f}", f"{point.accuracy:.2%}", f"{point.loss:.4f}")
    return table


def _right(name: str) -> Column:
    return Column(name, justify="right")


def comparison_table(comparison: Comparison) -> Table:
    """Every way beside its controls."""
    table = Table("model", *(_right(name) for name in ("accuracy", "loss", "barrier", "seconds")))
    for row in comparison.rows:
        barrier = "" if row.barrier is None else f"{row.barrier:.3f}"
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        table.add_row(row.name, f"{row.metrics.accuracy:.2%}", f"{row.metrics.loss:.4f}", barrier, seconds)
    return table
