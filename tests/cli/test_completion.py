"""Shells learn commands, flags and values from `transfuse --show-completion`."""

import os
import subprocess
import sys
from inspect import signature

import pytest
from typer.models import OptionInfo

from transfuse.cli import app

CODE = "import sys; sys.argv[0] = 'transfuse'; from transfuse.cli import main; main()"


def offered(shell: str, *words: str) -> list[str]:
    """What is offered for the last of the words."""
    line = " ".join(["transfuse", *words])
    asked = {"_TRANSFUSE_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    typed = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    run = [sys.executable, "-c", CODE]
    done = subprocess.run(run, env=os.environ | asked | typed, capture_output=True, text=True, check=True)
    return done.stdout.replace('"', " ").replace(":", " ").split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_commands_flags_and_values(shell: str) -> None:
    assert "fuse" in offered(shell, "fu")
    assert "--align" in offered(shell, "fuse", "--al")
    assert offered("bash", "fuse", "--align", "") == ["none", "flow", "exact", "learned"]
    assert "least-squares" in offered(shell, "fuse", "--merge", "l")
    assert "mean" not in offered(shell, "fuse", "--merge", "l")


def test_where_values_are_many_nothing_is_offered() -> None:
    """So that the shell offers files."""
    assert offered("bash", "fuse", "--data", "") == []


def test_flags_are_named_whatever_stands_for_their_value() -> None:
    """Some versions of typer take a metavar that is a flag's own name, in capitals, for that name."""
    for command in app.registered_commands:
        assert command.callback is not None
        for name, parameter in signature(command.callback).parameters.items():
            for info in getattr(parameter.annotation, "__metadata__", ()):
                if isinstance(info, OptionInfo) and (info.metavar or "").lower() == name:
                    assert info.default == f"--{name}", (command.name, name)  # the first argument, which typer moves
