"""The command line."""

from transfuse.cli.application import app, main

__all__ = ["app", "main"]
