"""Print results as text or JSON, and errors as one line."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from rich.console import Console, RenderableType

from transfuse.base.printable import printable
from transfuse.base.progress import Progress, Terminal, silent
from transfuse.base.rank import is_first_process

MAX_ERROR_LENGTH = 1000  # characters; names and messages of libraries have any length
PIPE_WIDTH = 100_000  # columns; programs that read a pipe must not receive wrapped paths

Render: TypeAlias = Callable[[], RenderableType | Sequence[RenderableType]]


@dataclass(frozen=True)
class OutputMode:
    """Hold how a command reports progress and results.

    Attributes:
        show: takes a result as a JSON document, and a function that renders it as text, possibly in parts.
    """

    progress: Progress
    show: Callable[[Any, Render], None]


def console() -> Console:
    """Return a console on the current standard output, without wrapping unless that is a terminal."""
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _show_text(document: Any, render: Render) -> None:
    rendered = render()
    for part in rendered if isinstance(rendered, list | tuple) else (rendered,):
        console().print(part, soft_wrap=isinstance(part, str))


def _show_json(document: Any, render: Render) -> None:
    print(json.dumps(json_values(document), indent=1, allow_nan=False))


def _show_nothing(document: Any, render: Render) -> None:
    pass


def output_mode(as_json: bool, quiet: bool) -> OutputMode:
    """Return the mode that --json and --quiet select: with both, JSON only. Of several processes, the first prints.

    Each warning is written once.
    """
    if not is_first_process():
        return OutputMode(silent, _show_nothing)
    show = _show_json if as_json else _show_nothing if quiet else _show_text
    return OutputMode(silent if quiet else Terminal(bars=not as_json), show)


def json_values(document: Any) -> Any:
    """Return `document` with None in place of NaN and infinities, which JSON does not have."""
    if isinstance(document, dict):
        return {key: json_values(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [json_values(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def fail(message: str, status: int = 2) -> NoReturn:
    """Print one line on stderr and exit."""
    line = printable(message)
    short = (
        line
        if len(line) <= MAX_ERROR_LENGTH
        else f"{line[: MAX_ERROR_LENGTH // 2]} ... {line[-MAX_ERROR_LENGTH // 2 :]}"
    )
    print(f"transfuse: {short}", file=sys.stderr)
    sys.exit(status)
