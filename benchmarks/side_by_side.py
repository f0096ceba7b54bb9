"""Measure how much slower a fusion gets when another one runs at the same time, by how long idle threads stay awake.

python benchmarks/side_by_side.py

Fusions of `../shared/parents/cifar10-vit-a` and `-b` by fitted layers (300 images) run on all cores of a quiet machine.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

from common import DATA, load, record, spread
from rows import markdown

PARENTS = DATA.parent / "parents"
COMMAND = [
    *(sys.executable, "-m", "transfuse", "fuse", PARENTS / "cifar10-vit-a", PARENTS / "cifar10-vit-b"),
    *("--data", DATA / "cifar10" / "test.parquet", "--samples", "300", "--merge", "least-squares"),
]
SETTINGS = {
    "default": {},
    "OpenMP's own default": {"GOMP_SPINCOUNT": "300000"},
    "`OMP_WAIT_POLICY=passive`": {"OMP_WAIT_POLICY": "passive"},
    "`OMP_NUM_THREADS=1`": {"OMP_NUM_THREADS": "1"},
}
COPIES = (1, 2)
TIMES = 3


def seconds(copies: int, setting: dict[str, str]) -> float:
    """Return the mean wall time of fusions that run at the same time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        runs = [
            subprocess.Popen(
                [*COMMAND, "-o", Path(folder) / str(copy)], env=environment | setting, stderr=subprocess.DEVNULL
            )
            for copy in range(copies)
        ]
        if any(run.wait() for run in runs):
            raise SystemExit("A fusion failed.")
        return time.perf_counter() - start


def table() -> str:
    """Return the seconds of a fusion alone and beside another one, for each setting."""
    found = load("side-by-side")["rows"]
    rows = [[name, *(spread(row[str(copies)], 1) for copies in COPIES)] for name, row in found.items()]
    return markdown(["", "seconds, alone", "seconds, two at once"], rows)


def main() -> None:
    rows: dict[str, dict[str, list[float]]] = {}
    for name, setting in SETTINGS.items():
        rows[name] = {str(copies): [seconds(copies, setting) for _ in range(TIMES)] for copies in COPIES}
        print(name, {copies: mean(found) for copies, found in rows[name].items()}, flush=True)
        record("side-by-side", {"rows": rows})


if __name__ == "__main__":
    main()
