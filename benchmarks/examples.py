"""What every example prints, and how long it takes.

python benchmarks/examples.py
"""

import resource
import subprocess
import sys
import tempfile
import time

from common import HERE, record

EXAMPLES = HERE.parent / "examples"
SHARED = {"common", "residual_mlp"}  # what examples import


def main() -> None:
    result = {}
    for path in sorted(EXAMPLES.glob("*.py")):
        if path.stem in SHARED:
            continue
        with tempfile.TemporaryDirectory() as folder:
            start, before = time.perf_counter(), spent()
            done = subprocess.run(
                [sys.executable, "-X", "utf8", path], cwd=folder, capture_output=True, encoding="utf-8", check=True
            )
        seconds = {"wall": time.perf_counter() - start, "processor": spent() - before}
        result[path.stem] = {"seconds": seconds, "printed": done.stdout.splitlines()}
        print(f"{path.stem}, {seconds['processor']:.0f} s of a processor", done.stdout, sep="\n", flush=True)
        record("examples", {"examples": result})  # what is there so far, too


def spent() -> float:
    """Processor seconds of all subprocesses so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
