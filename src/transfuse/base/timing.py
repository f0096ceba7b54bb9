"""How long the stages of a job take, and how much memory."""

import sys
import time


class Stopwatch:
    """Seconds by stage; it runs from when it is made."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The stage ends now."""
        now = time.perf_counter()
        self.laps[stage] = round(now - self._last, 3)
        self._last = now


def peak_bytes() -> int | None:
    """The most memory that this process held at once; None where the system does not tell."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None
    peak = getrusage(RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
