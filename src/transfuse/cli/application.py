"""Define the commands and turn errors into exit statuses. Slow imports come after options are checked."""

import os
import re
import signal
import sys
from inspect import signature
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from transfuse.cli.carry import EXAMPLES as CARRY_EXAMPLES
from transfuse.cli.carry import carry
from transfuse.cli.command import Command
from transfuse.cli.completion import complete_values
from transfuse.cli.doctor import EXAMPLES as DOCTOR_EXAMPLES
from transfuse.cli.doctor import doctor
from transfuse.cli.evaluate import EVAL_EXAMPLES, PATH_EXAMPLES, evaluate, path
from transfuse.cli.finetune import EXAMPLES as FINETUNE_EXAMPLES
from transfuse.cli.finetune import finetune
from transfuse.cli.fuse import FUSE_EXAMPLES, PLAN_EXAMPLES, fuse, plan
from transfuse.cli.landscape import EXAMPLES as LANDSCAPE_EXAMPLES
from transfuse.cli.landscape import landscape
from transfuse.cli.output import fail
from transfuse.cli.report import DEMO_EXAMPLES, REPORT_EXAMPLES, demo, report
from transfuse.cli.shrink import EXAMPLES as SHRINK_EXAMPLES
from transfuse.cli.shrink import shrink
from transfuse.config.synonyms import nearest
from transfuse.errors import ConfigError, DataError, InterruptedRunError, TransfuseError

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
    },
)
USAGE_ERROR: Any = typer.BadParameter.__base__
INTERRUPTED_STATUS = 130
ARGUMENTS = {"models", "model", "output", "tuned", "new_base"}  # names in messages that are not flags


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Fuse independently trained Transformers into one, by exact symmetries and optimal transport."""
    if version:
        from importlib.metadata import version as installed

        print(f"transfuse {installed('transfuse')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


COMMANDS = {  # in the order of --help, with the examples at the end of each help text
    "fuse": (fuse, FUSE_EXAMPLES),
    "plan": (plan, PLAN_EXAMPLES),
    "carry": (carry, CARRY_EXAMPLES),
    "eval": (evaluate, EVAL_EXAMPLES),
    "path": (path, PATH_EXAMPLES),
    "landscape": (landscape, LANDSCAPE_EXAMPLES),
    "finetune": (finetune, FINETUNE_EXAMPLES),
    "shrink": (shrink, SHRINK_EXAMPLES),
    "report": (report, REPORT_EXAMPLES),
    "demo": (demo, DEMO_EXAMPLES),
    "doctor": (doctor, DOCTOR_EXAMPLES),
}
for name, (function, examples) in COMMANDS.items():
    app.command(name, cls=Command, epilog=examples)(function)
complete_values(app)


def main() -> None:
    """Run a command. An error of the user prints one line on stderr and exits with status 2."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that incomplete files are removed
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (None if it was closed)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that its encoding lacks
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED_STATUS
    except InterruptedRunError as error:
        fail(str(error), INTERRUPTED_STATUS)
    except USAGE_ERROR as error:
        fail(_usage(error))
    except TransfuseError as error:
        fail(_with_flags(error))
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except (MemoryError, RuntimeError, ValueError) as error:
        message = _machine_limit(error)
        if message is None:
            raise
        fail(message)
    if status == INTERRUPTED_STATUS:
        fail("interrupted", INTERRUPTED_STATUS)
    sys.exit(status)


def _with_flags(error: TransfuseError) -> str:
    """Return a message with the flags of the options that it names: at its start, to give data, or a column of it.

    The first word is not an option if the command line has a path of this name, or if the error is one of a checkpoint.
    """
    message = str(error)
    option, colon, rest = message.partition(":")
    names = {name for function, _ in COMMANDS.values() for name in signature(function).parameters}
    given = {os.path.normpath(argument.rpartition("=")[2]) for argument in sys.argv}
    if colon and isinstance(error, ConfigError | DataError) and option in names - ARGUMENTS - given:
        message = f"--{option.replace('_', '-')}:{rest}"
    message = re.sub(r"\bgive data\b", "give --data", message)
    return re.sub(r"(\(|with )(text|label|image)_column\b", r"\1--\2-column", message)


def _usage(error: Any) -> str:
    """Return the message for a usage error, with the most similar option if there is one."""
    option = getattr(error, "option_name", None)
    if option and type(error).__name__ == "NoSuchOption":
        similar = nearest(option, [name for each in error.ctx.command.params for name in each.opts])
        message = f"No such option: {option}" + (f"; did you mean {similar}?" if similar else "")
    else:
        message = error.format_message().rstrip(".")
        word = message.partition("No such command '")[2].rstrip("'")
        similar = nearest(word, COMMANDS) if word else None
        message += f"; did you mean {similar}?" if similar else ""
    return f"{message} (see {error.ctx.command_path if error.ctx else 'transfuse'} --help)"


def _machine_limit(error: Exception) -> str | None:
    """Return the message for an error of memory or numerical precision; None for any other error."""
    from transfuse.base.memory_limit import is_out_of_memory

    if is_out_of_memory(error):
        return (
            "out of memory; allow more with --max-memory or --max-device-memory, or give a smaller --batch-size or"
            " another --device"
        )
    if type(error).__name__.endswith("LinAlgError"):
        line = next(iter(str(error).splitlines()), "")
        return f"the alignment failed numerically ({line}); check whether weights or activations are huge or constant"
    return None
