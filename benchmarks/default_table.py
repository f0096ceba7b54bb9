"""Return the tables of ready pairs, measured by `default.py`, `generated.py` and `starts.py`."""

import json
from pathlib import Path
from statistics import mean
from typing import Any

from common import RESULTS

VIEWS = {"centred": "centered", "moved": "shifted"}  # as the tables call them


def table(name: str) -> str:
    """Return a table of the losses on each kind of test samples, and of the time that each row took."""
    files = [RESULTS / f"{name}{suffix}.json" for suffix in ("", "-as-long")]
    rows: dict[str, dict[str, Any]] = {}
    for file in filter(Path.exists, files):
        rows |= json.loads(file.read_text())["rows"]
    kinds = [name for name, values in next(iter(rows.values())).items() if isinstance(values, dict)]
    mean_column = ["mean"] if len(kinds) > 1 else []
    heads = [VIEWS.get(kind, kind) for kind in kinds]
    lines = [["test loss (accuracy)", *heads, *mean_column, "steps", "seconds"]]
    lines.append(["---"] * len(lines[0]))
    for name, row in rows.items():
        losses = [f"{row[kind]['loss']:.3f} ({100 * row[kind]['accuracy']:.1f} %)" for kind in kinds]
        middle = [f"{mean(row[kind]['loss'] for kind in kinds):.3f}"] if mean_column else []
        steps = str((row.get("course") or {}).get("steps") or "")
        seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
        lines.append([name.replace(", moved", ", trained"), *losses, *middle, steps, seconds])
    return _markdown(lines)


def starts(pair: str) -> str:
    """Return a table of the mean test losses after descents from several starts, and before them."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"starts-{pair}.json").read_text())["rows"]
    names = list(dict.fromkeys(row["start"] for row in rows))
    losses: dict[tuple[int, int], dict[str, float]] = {}
    for row in rows:
        for steps, found in ((0, row["before"]), (row["steps"], row["test"])):
            losses.setdefault((row["samples"], steps), {})[row["start"]] = mean(kind["loss"] for kind in found.values())
    lines = [["samples", "steps", *names], ["---"] * (len(names) + 2)]
    for (samples, steps), found in sorted(losses.items()):
        lowest = min(found.values())
        cells = [
            f"**{loss:.3f}**" if loss < lowest + 0.0005 else f"{loss:.3f}" for loss in map(found.__getitem__, names)
        ]
        lines.append([f"{samples:,}", f"{steps:,}", *cells])
    return _markdown(lines)


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
