"""What `transfuse doctor` found, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from transfuse.base.printable import printable
from transfuse.base.sizes import in_words
from transfuse.report.tables import models_table, right, spaces_table

if TYPE_CHECKING:
    from transfuse.cli.jobs.doctor import Examination, Install
    from transfuse.install import Package
    from transfuse.verification.self_fusion import Recovery


def packages_summary(found: Sequence[Package]) -> Group:
    """Every package; below, what is wrong."""
    return Group(_packages(found), verdict([each.problem for each in found if each.problem], "the install"))


def install_summary(found: Install) -> Group:
    """Packages, devices, the self-test; below, what is wrong."""
    devices = Table("device", "", *(right(name) for name in ("free", "memory")))
    for device in found.devices:
        devices.add_row(device.name, device.what, in_words(device.free_bytes), in_words(device.total_bytes))
    limit = "not set" if found.threads.limit is None else found.threads.limit
    lines = [f"{name}: {value}" for name, value in found.versions.items()]
    lines += [f"threads: {found.threads.used}, of {found.threads.cores} cores (OMP_NUM_THREADS {limit})"]
    trials = Table("self-test", *(right(name) for name in ("error", "allowed")))
    for trial in found.trials:
        trials.add_row(trial.name, f"{trial.error:.1e}", f"{trial.allowed:.0e}")
    said = [*found.advice, verdict(found.problems, "the install")]
    return Group(_packages(found.packages), devices, "\n".join(lines), trials, "\n".join(said))


def examination_summary(found: Examination) -> Group:
    """A model's spaces, its declaration, how it came back; below, what is wrong."""
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
        moving = f"moving every space changes an answer by {found.declaration:.1e} of the largest"
        headless = "what moves cannot be seen of answers in the model's own basis"
        parts.append(f"declaration: every tensor is declared; {headless if recovery.hidden is None else moving}")
    if recovery is not None:
        samples = f" of {recovery.samples} samples" if recovery.samples else ""
        parts += [
            f"fused with a hidden copy of itself: evidence {recovery.evidence}{samples}, merge {recovery.merge}",
            _answers(recovery),
        ]
    what = f"{found.model.path} ({found.dtype})"
    return Group(*parts, printable(verdict(found.problems, what)))


def verdict(problems: Sequence[str], what: str) -> str:
    """All is well, or what is not."""
    return "\n".join(f"Not well: {problem}" for problem in problems) or f"All is well with {what}."


def _answers(found: Recovery) -> Table:
    table = Table("answers differ from the model's by", *(right(name) for name in ("of the largest", "allowed")))
    if found.hidden is not None:
        table.add_row("the hidden copy", f"{found.hidden:.1e}", f"{found.tolerance:.0e}")
    table.add_row("the fused model", f"{found.fused:.1e}", f"{found.tolerance:.0e}")
    table.add_row("the plain average (control)", f"{found.plain:.1e}", "")
    return table


def _packages(found: Sequence[Package]) -> Table:
    table = Table("package", "needed", "found")
    for package in found:
        table.add_row(package.name, package.needed, package.found or ("no (optional)" if package.extra else "no"))
    return table
