"""What a command was asked for: the flags it was given, and how it is to speak."""

import os
from typing import Any

import typer

from transfuse.cli.output import JSON, QUIET, TEXT, OutputMode

SPEECH = ("as_json", "quiet")
MEMORY = ("max_memory", "max_device_memory")


def passed_options(context: typer.Context, *aside: str) -> dict[str, Any]:
    """Every flag by its name, None where it was not used, but for those `aside` and how to speak."""
    return {name: value for name, value in context.params.items() if name not in (*aside, *SPEECH)}


def output_mode(context: typer.Context) -> OutputMode:
    """As --json and --quiet want it; of several processes, one per GPU, the first speaks."""
    mute = context.params.get("quiet") or os.environ.get("RANK", "0") != "0"
    return QUIET if mute else JSON if context.params.get("as_json") else TEXT
