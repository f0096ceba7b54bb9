"""Progress on the terminal, for whatever takes longer than a second; libraries stay silent."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

T = TypeVar("T")


class Progress(Protocol):
    """Passes items on, saying how far it is."""

    def track(self, items: Sequence[T], doing: str) -> Iterable[T]: ...


class Silent:
    """Says nothing."""

    def track(self, items: Sequence[T], doing: str) -> Iterable[T]:
        return items


silent = Silent()


class Terminal:
    """A bar on stderr, gone when done; nothing where stderr is no terminal."""

    def track(self, items: Sequence[T], doing: str) -> Iterator[T]:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            yield from bar.track(items, total=len(items), description=doing)
