"""Complete the values of flags in shells."""

from collections.abc import Callable
from inspect import signature

from typer import Typer
from typer.models import OptionInfo


def complete_values(app: Typer) -> None:
    """Complete the values of all flags whose metavar lists them, as `none|flow|exact`."""
    for command in app.registered_commands:
        for parameter in signature(command.callback).parameters.values() if command.callback else ():
            for info in getattr(parameter.annotation, "__metadata__", ()):
                if isinstance(info, OptionInfo) and "|" in (info.metavar or ""):
                    info.autocompletion = _completer(str(info.metavar).split("|"))


def _completer(values: list[str]) -> Callable[[str], list[str]]:
    """Return a function from the start of a word to the values that begin with it."""

    def complete(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return complete
