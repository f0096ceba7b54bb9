"""Progress that keeps warnings."""

from transfuse.base.progress import Silent


class KeptWarnings(Silent):
    """Keep the lines that a user would read."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def warn(self, line: str) -> None:
        self.lines.append(line)
