"""Every command and option, made from the command line itself: where a page says `<!-- commands -->`."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

from transfuse.cli import app

ASKED = "<!-- commands -->"
OPTION = re.compile(r"(?<![\w`-])(--[a-z][a-z.-]*[a-z])")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put them where they are asked for."""
    return markdown.replace(ASKED, commands()) if ASKED in markdown else markdown


def commands() -> str:
    """Markdown of all commands."""
    return "\n".join(_section(typer.main.get_command(app), "transfuse", 2))


def _section(command: Any, name: str, level: int) -> Iterator[str]:
    """A command, what it takes, and its subcommands."""
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield f"\n{'#' * level} {name}\n\n{command.help or ''}\n\n```\n{usage}\n```\n"
    panels: dict[str, list[Any]] = defaultdict(list)
    for parameter in command.get_params(context):
        if not getattr(parameter, "hidden", False):
            kind = "Argument" if parameter.param_type_name == "argument" else "Option"
            panels[getattr(parameter, "rich_help_panel", None) or kind].append(parameter)
    for panel, parameters in panels.items():
        yield from _table(panel, parameters, context)
    for each, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield from _section(child, f"{name} {each}", level + (name != "transfuse"))


def _table(panel: str, parameters: list[Any], context: Any) -> Iterator[str]:
    yield f"\n| {panel} | |\n|---|---|"
    for parameter in parameters:
        spelling, meaning = parameter.get_help_record(context)
        typed = f"`{parameter.metavar}`" if parameter.param_type_name == "argument" else _option(spelling)
        yield f"| {_cell(typed)} | {_cell(_told(meaning))} |"
    yield ""


def _option(spelling: str) -> str:
    """`-o, --output OUT`: every name, and every choice, as code."""
    names, _, takes = spelling.rpartition(" ") if " " in spelling.split(", ")[-1] else (spelling, "", "")
    shown = ", ".join(f"`{name}`" for name in names.split(", "))
    return f"{shown}<br>{' | '.join(f'`{choice}`' for choice in takes.split('|'))}" if takes else shown


def _told(meaning: str) -> str:
    """Its help; names of options in it as code."""
    return OPTION.sub(r"`\1`", meaning)


def _cell(text: str) -> str:
    """Text that a table's cell can hold."""
    return " ".join(text.split()).replace("|", "&#124;")
