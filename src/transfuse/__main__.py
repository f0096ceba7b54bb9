"""`python -m transfuse`, and the installed command."""

import os
import sys

OPENMP_SPINS = 1000  # GNU's OpenMP, which PyTorch uses on Linux, takes 300,000 where nothing is set


def main() -> None:
    """Run the command line. An interruption while it is imported prints one line, as a later one does."""
    limit_idle_spinning()
    try:
        from transfuse.cli import main as run
    except KeyboardInterrupt:
        print("transfuse: interrupted", file=sys.stderr, flush=True)
        os._exit(130)  # after an interruption of code in a string, Python would end with the signal instead
    run()


def limit_idle_spinning() -> None:
    """Limit how long OpenMP's idle threads keep a core busy, unless the environment does. Call it before torch loads.

    Threads that wait in a loop for the next operation take the cores of other jobs. On two cores, two runs at once took
    82 s each. With this limit, they take 21 s, and a run alone takes 14 s instead of 12 s
    (`benchmarks/side_by_side.py`).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(OPENMP_SPINS))


if __name__ == "__main__":
    main()
