"""Progress bars and warnings on the terminal, and silence for libraries."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, redirect_stdout
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from transfuse.errors import ConfigError

T = TypeVar("T")


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

    Args:
        bars: whether bars are shown at all.
    """

    def __init__(self, bars: bool = True) -> None:
        self._bars = bars
        self._warned: set[str] = set()

    def track(self, items: Iterable[T], description: str | Callable[[], str]) -> Iterator[T]:
        console = Console(stderr=True)
        if not (self._bars and console.is_terminal):
            yield from items
            return
        amount = (MofNCompleteColumn(),) if isinstance(items, Sized) else ()
        columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeElapsedColumn())
        with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
            current = (lambda: description) if isinstance(description, str) else description
            task = bar.add_task(current(), total=len(items) if isinstance(items, Sized) else None)
            for item in items:
                yield item
                bar.update(task, advance=1, description=current())

    def warn(self, line: str) -> None:
        """Write a warning to stderr, whether or not it is a terminal, unless it was written before."""
        if line not in self._warned:
            print(f"transfuse: {line}", file=sys.stderr)
        self._warned.add(line)


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


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress progress bars, warnings, log lines and prints of libraries, so that stdout holds the result only."""
    with suppress_output():
        from transfuse.base.libraries import quiet  # the import itself may warn

        with quiet():
            yield


@contextmanager
def suppress_output() -> Iterator[None]:
    """Suppress prints, warnings and log lines, without importing the libraries that cause them."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with open(os.devnull, "w") as devnull, redirect_stdout(devnull), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
