"""How long the stages of a job take."""

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
