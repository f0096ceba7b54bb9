"""Format the result of `transfuse doctor` for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from transfuse.base.printable import printable
from transfuse.report.tables import models_table, number_column, spaces_table

if TYPE_CHECKING:
    from transfuse.cli.jobs.doctor import Examination
    from transfuse.verification.self_fusion import Recovery


def examination_summary(found: Examination) -> Group:
    """Show a model's spaces, the check of its declaration, its fusion with a copy of itself, and all problems."""
    parts: list[Table | str] = [models_table([found.model])]
    recovery = found.recovery
    if recovery is None:
        if found.spaces:
            parts.append(spaces_table(list(found.spaces)))
    else:
        shares = {"before": found.shares(recovery.before), "after": found.shares(recovery.after)}
        columns = {f"in place {name}": [f"{share:.1%}" for share in each] for name, each in shares.items()}
        parts.append(spaces_table(list(found.spaces), columns))
    if found.declaration is not None and recovery is not None:
        change = f"moving every space changes an output by {found.declaration:.1e} of the largest"
        headless = "the effect of moving the model's own basis cannot be seen without a head"
        parts.append(f"declaration: every tensor is declared; {headless if recovery.copy is None else change}")
    if recovery is not None:
        samples = f" of {recovery.samples} samples" if recovery.samples else ""
        parts += [
            f"fused with a random symmetric copy of itself: matched on {recovery.match_on}{samples},"
            f" merged by {recovery.merge}",
            _output_differences(recovery),
        ]
    name = f"{found.model.path} ({found.dtype})"
    lines = [f"Problem: {problem}" for problem in found.problems] or [f"No problem was found in {name}."]
    return Group(*parts, printable("\n".join(lines)))


def _output_differences(recovery: Recovery) -> Table:
    table = Table(
        "difference from the model's outputs", *(number_column(name) for name in ("of the largest", "allowed"))
    )
    if recovery.copy is not None:
        table.add_row("the copy", f"{recovery.copy:.1e}", f"{recovery.tolerance:.0e}")
    table.add_row("the fused model", f"{recovery.fused:.1e}", f"{recovery.tolerance:.0e}")
    table.add_row("the plain average (control)", f"{recovery.plain:.1e}", "")
    return table
