"""Measure how long the command line takes to print its version, its help, and the help of a command.

python benchmarks/startup.py

Processor time is recorded beside wall time, because it depends less on other jobs.
"""

import resource
import subprocess
import sys
import time
from statistics import median

from common import record

CASES = {
    "python alone": ["-c", "pass"],
    "transfuse --version": ["-m", "transfuse", "--version"],
    "transfuse --help": ["-m", "transfuse", "--help"],
    "transfuse fuse --help": ["-m", "transfuse", "fuse", "--help"],
}
TIMES = 9
SLOWEST = 10  # number of imports to record


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Return the wall and processor time of one run."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


def imports(arguments: list[str]) -> dict[str, int]:
    """Return the microseconds that each module took to import by itself, the slowest first."""
    run = [sys.executable, "-X", "importtime", *arguments]
    log = subprocess.run(run, capture_output=True, text=True, check=True).stderr.splitlines()
    rows = [line.removeprefix("import time:").split("|") for line in log if line.startswith("import time:")][1:]
    found = {name.strip(): int(own) for own, _, name in rows}
    return dict(sorted(found.items(), key=lambda each: -each[1])[:SLOWEST])


def main() -> None:
    result = {}
    for name, arguments in CASES.items():
        seconds(arguments)  # reads the files from disk
        wall, processor = zip(*(seconds(arguments) for _ in range(TIMES)), strict=True)
        result[name] = {"wall": median(wall), "least wall": min(wall), "processor": median(processor)}
        print(f"{name:24} {median(wall):.3f} s, {median(processor):.3f} s of processor time", flush=True)
    slow = {name: imports(CASES[name]) for name in ("transfuse --help", "transfuse fuse --help")}
    record("startup", {"seconds, of nine runs": result, "slowest imports, microseconds": slow})


if __name__ == "__main__":
    main()
