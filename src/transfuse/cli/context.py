"""Choose the output mode of a command by its flags."""

import os

import typer

from transfuse.cli.output import JSON, QUIET, OutputMode, text_mode


def output_mode(context: typer.Context) -> OutputMode:
    """Return the mode that --json and --quiet select. With several processes, only the first prints."""
    if context.params.get("quiet") or os.environ.get("RANK", "0") != "0":
        return QUIET
    return JSON if context.params.get("as_json") else text_mode()
