"""Format the result of `transfuse doctor` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from transfuse.base.counted import counted
from transfuse.base.printable import printable
from transfuse.report.plan_tables import models_table, spaces_table
from transfuse.report.tables import number_column

if TYPE_CHECKING:
    from transfuse.cli.jobs.doctor import Examination
    from transfuse.verification.self_fusion import Recovery


def examination_summary(examination: Examination) -> Group:
    """Return a table of a model's spaces, the check of its declaration, its fusion with a copy, and all problems."""
    parts: list[Table | str] = [models_table([examination.model])]
    recovery = examination.recovery
    if recovery is None:
        if examination.spaces:
            parts.append(spaces_table(list(examination.spaces)))
    else:
        columns = {
            "in place before": [f"{share:.1%}" for share in examination.shares(recovery.before)],
            "in place after": [f"{share:.1%}" for share in examination.shares(recovery.after)],
        }
        parts.append(spaces_table(list(examination.spaces), columns))
    if examination.declaration is not None and recovery is not None:
        change = f"moving every space changes an output by {examination.declaration:.1e} of the largest"
        headless = "the effect of moving the model's own basis cannot be seen without a head"
        parts.append(f"declaration: every tensor is declared; {headless if recovery.copy is None else change}")
    if recovery is not None:
        samples = f", with {counted(recovery.samples, 'sample')}" if recovery.samples else ""
        parts += [
            f"fused with a random symmetric copy of itself: matched on {recovery.match_on}, merged by"
            f" {recovery.merge}{samples}",
            _output_differences(recovery),
        ]
    name = f"{examination.model.path} ({examination.dtype})"
    lines = [f"Problem: {problem}" for problem in examination.problems] or [f"No problem was found in {name}."]
    return Group(*parts, printable("\n".join(lines)))


def _output_differences(recovery: Recovery) -> Table:
    """Return how far the outputs of the copy, the fused model and the plain average are from the model's."""
    table = Table(
        "difference from the model's outputs", *(number_column(name) for name in ("of the largest", "allowed"))
    )
    if recovery.copy is not None:
        table.add_row("the copy", f"{recovery.copy:.1e}", f"{recovery.tolerance:.0e}")
    table.add_row("the fused model", f"{recovery.fused:.1e}", f"{recovery.tolerance:.0e}")
    table.add_row("the plain average (control)", f"{recovery.plain:.1e}", "")
    return table
