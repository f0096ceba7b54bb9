"""Return the table of the default fusion of a ready pair, measured by `default.py`."""

import json
from statistics import mean
from typing import Any

from common import RESULTS


def table(pair: str) -> str:
    """Return a table of the losses on each kind of test samples, and of the time that each row took."""
    rows: dict[str, dict[str, Any]] = json.loads((RESULTS / f"default-{pair}.json").read_text())["rows"]
    kinds = [name for name, values in next(iter(rows.values())).items() if isinstance(values, dict)]
    mean_column = ["mean"] if len(kinds) > 1 else []
    lines = [["test loss (accuracy)", *kinds, *mean_column, "steps", "seconds"]]
    lines.append(["---"] * len(lines[0]))
    for name, row in rows.items():
        losses = [f"{row[kind]['loss']:.3f} ({100 * row[kind]['accuracy']:.1f} %)" for kind in kinds]
        middle = [f"{mean(row[kind]['loss'] for kind in kinds):.3f}"] if mean_column else []
        steps = str((row.get("course") or {}).get("steps") or "")
        seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
        lines.append([name, *losses, *middle, steps, seconds])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
