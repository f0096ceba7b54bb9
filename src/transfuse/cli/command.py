"""A command whose help shows the everyday flags and examples, and all flags, by panels, with --help-all."""

from collections import defaultdict
from typing import Annotated, Any

from typer import Context, Exit, Option
from typer.core import TyperCommand

COLUMN = 26  # of the names of flags, at most; longer ones have a line of their own
ALL = "transfuse.help_all"  # in the context, whether the help shows all flags


def _show_all(context: Context, value: bool) -> None:
    if value:
        context.meta[ALL] = True
        print(context.get_help())
        raise Exit


HelpAll = Annotated[bool, Option("--help-all", is_eager=True, callback=_show_all, help="Show all options, and exit.")]


class Command(TyperCommand):
    """A command that shows its flags in panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the everyday flags; with --help-all, the others under the headings of their panels."""
        panels: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            name, meaning = parameter.metavar or "", getattr(parameter, "help", None) or ""
            record = (name, meaning) if is_argument else parameter.get_help_record(ctx)
            panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
            if record is not None and (panel in ("Arguments", "Options") or ctx.meta.get(ALL)):
                panels[panel].append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records, col_max=COLUMN)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, line by line."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")
