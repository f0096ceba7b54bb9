"""Format help: --help shows everyday flags and examples, and --help-all shows all flags in panels."""

from collections import defaultdict
from typing import Annotated, Any

from typer import Context, Exit, Option
from typer.core import TyperCommand

from transfuse.errors import ConfigError

MAX_NAME_WIDTH = 26  # longer names of flags have a line of their own
DATA, KEEP = "--data", "--keep"  # flags that name samples
ALL_FLAGS = "transfuse.help_all"  # key in the context: whether the help shows all flags


def _show_all(context: Context, value: bool) -> None:
    """Print the help with all flags, and exit."""
    if value:
        context.meta[ALL_FLAGS] = True
        print(context.get_help())
        raise Exit


HelpAll = Annotated[bool, Option("--help-all", is_eager=True, callback=_show_all, help="Show all options, and exit.")]


class Command(TyperCommand):
    """Show the flags of a command in panels, and refuse data given twice, or without a name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. The last value of other flags counts, but two data sets look like a list.

        Raises:
            ConfigError: the name of samples is empty, which a path takes for the current folder.
        """
        if sum(argument.partition("=")[0] == DATA for argument in args) > 1:
            ctx.fail(f"{DATA} is given twice; give it once")
        rest = super().parse_args(ctx, args)
        for flag in (DATA, KEEP):
            if ctx.params.get(flag.removeprefix("--")) == "":
                raise ConfigError(f"{flag}: the name is empty; give a file, a folder or the name of a dataset")
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the everyday flags and, with --help-all, the other flags under the headings of their panels."""
        panels: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for parameter in self.get_params(ctx):
            is_argument = parameter.param_type_name == "argument"
            record: tuple[str, str] | None
            if is_argument:
                record = (parameter.metavar or "", getattr(parameter, "help", None) or "")
            else:
                record = parameter.get_help_record(ctx)
            panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
            if record is not None and (panel in ("Arguments", "Options") or ctx.meta.get(ALL_FLAGS)):
                panels[panel].append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records, col_max=MAX_NAME_WIDTH)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write one example per line."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")
