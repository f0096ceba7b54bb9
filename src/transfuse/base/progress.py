"""Progress on the terminal, for whatever takes longer than a second; libraries stay silent."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

T = TypeVar("T")


class Progress(Protocol):
    """Report progress: `track` passes items on and shows how many are done; `warn` writes a line to stderr."""

    def track(self, items: Sequence[T], doing: str | Callable[[], str]) -> Iterable[T]: ...

    def warn(self, line: str) -> None: ...


class Silent:
    """Says nothing."""

    def track(self, items: Sequence[T], doing: str | Callable[[], str]) -> Iterable[T]:
        return items

    def warn(self, line: str) -> None:
        pass


silent = Silent()


class Terminal:
    """A bar on stderr, gone when done; nothing where stderr is no terminal."""

    def track(self, items: Sequence[T], doing: str | Callable[[], str]) -> Iterator[T]:
        console = Console(stderr=True)
        if not console.is_terminal:
            yield from items
            return
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Bar(*columns, console=console, transient=True, redirect_stdout=False) as bar:
            say = (lambda: doing) if isinstance(doing, str) else doing
            task = bar.add_task(say(), total=len(items))
            for item in items:
                yield item
                bar.update(task, advance=1, description=say())

    def warn(self, line: str) -> None:
        """Something that may go wrong."""
        print(f"transfuse: {line}", file=sys.stderr)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Inside, libraries show no bar, no warning and no log line, and print nothing: stdout is for the result."""
    with suppress_output():
        from transfuse.base.libraries import quiet  # imports the libraries, which may warn already

        with quiet():
            yield


@contextmanager
def suppress_output() -> Iterator[None]:
    """Inside, nothing is printed, warned of or logged; no library is imported."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
