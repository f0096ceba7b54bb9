"""Choose the output mode of a command by its flags."""

import os

import typer

from transfuse.cli.output import QUIET, QUIET_JSON, OutputMode, json_mode, text_mode


def output_mode(context: typer.Context) -> OutputMode:
    """Return the mode that --json and --quiet select: with both, JSON only. Of several processes, the first prints."""
    if os.environ.get("RANK", "0") != "0":
        return QUIET
    quiet = context.params.get("quiet")
    if context.params.get("as_json"):
        return QUIET_JSON if quiet else json_mode()
    return QUIET if quiet else text_mode()
