"""Record the output and the time of every example, or of those that are named. The others stay as they were recorded.

python benchmarks/examples.py
python benchmarks/examples.py carry probe
"""

import json
import resource
import subprocess
import sys
import tempfile
import time

from common import HERE, RESULTS, record

EXAMPLES = HERE.parent / "examples"
SHARED = {"common", "residual_mlp"}  # modules that the examples import


def main() -> None:
    stored = RESULTS / "examples.json"
    named = sys.argv[1:]
    result = json.loads(stored.read_text())["examples"] if named and stored.exists() else {}
    for path in sorted(EXAMPLES.glob("*.py")):
        if path.stem in SHARED or (named and path.stem not in named):
            continue
        with tempfile.TemporaryDirectory() as folder:
            start, before = time.perf_counter(), spent()
            done = subprocess.run(
                [sys.executable, "-X", "utf8", path], cwd=folder, capture_output=True, encoding="utf-8", check=True
            )
        seconds = {"wall": time.perf_counter() - start, "processor": spent() - before}
        result[path.stem] = {"seconds": seconds, "printed": done.stdout.splitlines()}
        print(f"{path.stem}, {seconds['processor']:.0f} s of processor time", done.stdout, sep="\n", flush=True)
        record("examples", {"examples": result})  # after each example, so an interrupted run keeps its results


def spent() -> float:
    """Return the processor seconds of all subprocesses so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
