"""Compare the peak memory that `transfuse plan --data` predicts with the measured one.

python benchmarks/plan_data.py --threads 1

The models are random, and so are the samples. Every fusion runs in its own process. With `--predictions`, nothing is
fused, and only the predictions of the recorded rows are renewed.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from common import RESULTS, record
from large import run
from plan_subjects import SUBJECTS
from rich.console import Console
from rich.table import Table

METHODS = {
    "exact": ["--merge", "mean"],
    "flow": ["--align", "flow", "--merge", "mean"],
    "least squares": ["--merge", "least-squares"],
    "default, quick": ["--effort", "quick"],
    "learned, 20 steps": ["--merge", "learned", "--steps", "20"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--ways", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--samples", type=int, help="number of samples, instead of that of each subject")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--predictions", action="store_true", help="renew the predictions of the recorded rows only")
    parser.add_argument("--folder", type=Path, help="folder for the checkpoints, which are deleted afterwards")
    args = parser.parse_args()
    path = RESULTS / "plan-data.json"
    stored = json.loads(path.read_text())["rows"] if path.exists() else []
    rows: dict[tuple[str, str], dict[str, Any]] = {(row["models"], row["way"]): row for row in stored}
    for label, method in product(args.subjects, args.ways):
        before = rows.get((label, method))
        if args.predictions and before is None:
            continue
        count = before["samples"] if args.predictions and before else args.samples or SUBJECTS[label].samples
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            models, data = replace(SUBJECTS[label], samples=count).write(folder)
            given = [*map(str, models), "--data", str(data), *METHODS[method]]
            row = {"models": label, "way": method, "samples": count}
            if args.predictions and before:
                row |= {field: before[field] for field in ("seconds", "peak_bytes")}
            else:
                _, watch, seconds = run(["fuse", *given, "-o", str(folder / "fused")], args.threads)
                row |= {"seconds": seconds, "peak_bytes": watch.peak}
            plan = run(["plan", *given], args.threads)[0]["data"]
            row |= {"predicted_bytes": plan["host_bytes"], "least_bytes": plan["least_bytes"]}
            row |= {"stage": plan["stage"], "parts": plan["parts"]}
            rows[label, method] = row
            print(row, flush=True)
            record("plan-data", {"rows": list(rows.values())})
    show(list(rows.values()))


def show(rows: list[dict[str, Any]]) -> None:
    """Print the measured memory, and the ratio of predicted to measured memory."""
    table = Table("models", "method", "seconds", "peak, GB", "predicted / measured", "largest while")
    for row in rows:
        ratio = row["predicted_bytes"] / row["peak_bytes"]
        table.add_row(
            row["models"], row["way"], f"{row['seconds']:.1f}", f"{row['peak_bytes'] / 1e9:.2f}", f"{ratio:.2f}",
            row["stage"],
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
