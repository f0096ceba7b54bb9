"""The time of each stage of a run, and its peak memory."""

import sys
import time


class Stopwatch:
    """Measure the seconds that each stage takes, starting when the object is created."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage and start the next one."""
        now = time.perf_counter()
        self.laps[stage] = round(now - self._last, 3)
        self._last = now


def peak_bytes() -> int | None:
    """Return the largest memory of this process so far, in bytes; None where the system does not report it."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None
    peak = getrusage(RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
