"""How a command speaks, by its flags."""

import os

import typer

from transfuse.cli.output import JSON, QUIET, TEXT, OutputMode


def output_mode(context: typer.Context) -> OutputMode:
    """Return what --json and --quiet ask for; of several processes, one per GPU, only the first prints."""
    mute = context.params.get("quiet") or os.environ.get("RANK", "0") != "0"
    return QUIET if mute else JSON if context.params.get("as_json") else TEXT
