"""Progress and warnings on the terminal or in a notebook."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from transfuse.errors import ConfigError

T = TypeVar("T")
SECONDS_PER_LINE = 10


class Progress(Protocol):
    """A way to report the progress of a loop, and warnings."""

    def track(self, items: Iterable[T], description: str | Callable[[], str]) -> Iterable[T]:
        """Yield the items; a function as `description` is called again after each item.

        If it is unknown how many there will be, the items have no length.
        """
        ...

    def warn(self, line: str) -> None:
        """Write a warning."""
        ...


class Silent:
    """Report nothing."""

    def track(self, items: Iterable[T], description: str | Callable[[], str]) -> Iterable[T]:
        return items

    def warn(self, line: str) -> None:
        pass


silent = Silent()


class Terminal:
    """Show a progress bar on stderr until the loop ends, if stderr is a terminal, and each warning once.

    In a notebook, which shows stderr below the cell, lines take the place of the bar.

    Args:
        bars: whether bars and such lines are shown at all.
    """

    def __init__(self, bars: bool = True) -> None:
        self._bars = bars
        self._warned: set[str] = set()

    def track(self, items: Iterable[T], description: str | Callable[[], str]) -> Iterator[T]:
        console = Console(stderr=True)
        current = (lambda: description) if isinstance(description, str) else description
        if self._bars and console.is_jupyter:
            yield from _with_lines(items, current)
            return
        if not (self._bars and console.is_terminal):
            yield from items
            return
        amount = (MofNCompleteColumn(),) if isinstance(items, Sized) else ()
        columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeElapsedColumn())
        with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
            task = bar.add_task(current(), total=len(items) if isinstance(items, Sized) else None)
            for item in items:
                yield item
                bar.update(task, advance=1, description=current())

    def warn(self, line: str) -> None:
        """Write a warning to stderr, whether or not it is a terminal, unless it was written before."""
        if line not in self._warned:
            print(f"transfuse: {line}", file=sys.stderr)
        self._warned.add(line)


def _with_lines(items: Iterable[T], description: Callable[[], str]) -> Iterator[T]:
    """Yield the items; write a line when the loop begins, and then at most every `SECONDS_PER_LINE` seconds."""
    total = f" of {len(items)}" if isinstance(items, Sized) else ""
    written = time.monotonic()
    print(f"transfuse: {description()}", file=sys.stderr)
    for count, item in enumerate(items, 1):
        yield item
        if time.monotonic() - written >= SECONDS_PER_LINE:
            written = time.monotonic()
            print(f"transfuse: {description()}, {count}{total}", file=sys.stderr)


def as_progress(progress: Progress | bool) -> Progress:
    """Return what reports progress: the terminal for True, nothing for False, and a `Progress` as it is.

    Raises:
        ConfigError: `progress` is neither.
    """
    if isinstance(progress, bool):
        return Terminal() if progress else silent
    if isinstance(progress, type) or not hasattr(progress, "track"):
        raise ConfigError(
            f"progress: {progress!r:.80} cannot show progress; give True, False, or an object with track and warn"
        )
    return progress
