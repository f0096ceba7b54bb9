"""The page `reference/cli.md`, made from the command line itself whenever the site is built."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from transfuse.cli import app

OPTION = re.compile(r"(?<![\w`-])(--[a-z][a-z-]*)")
PAGE = "reference/cli.md"
INTRODUCTION = """# Command line

Every command and option of this version. A mistake in what was given ends in one line, `transfuse: what, where; what to
do`, on stderr and exit status 2, with nothing half-written; an interrupted run ends with 130.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """Markdown of all commands."""
    root = typer.main.get_command(app)
    return "\n".join([INTRODUCTION, *_section(root, "transfuse", 2)])


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
