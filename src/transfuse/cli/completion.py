"""Shells complete the values of a flag, too, where its metavar lists them."""

from collections.abc import Callable
from inspect import signature

from typer import Typer
from typer.models import OptionInfo


def complete_values(app: Typer) -> None:
    """Let every flag of the app's commands whose metavar reads `one|other` offer these."""
    for command in app.registered_commands:
        for parameter in signature(command.callback).parameters.values() if command.callback else ():
            for info in getattr(parameter.annotation, "__metadata__", ()):
                if isinstance(info, OptionInfo) and "|" in (info.metavar or ""):
                    info.autocompletion = _among(str(info.metavar).split("|"))


def _among(values: list[str]) -> Callable[[str], list[str]]:
    def offer(incomplete: str) -> list[str]:
        return [value for value in values if value.startswith(incomplete)]

    return offer
