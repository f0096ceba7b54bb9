"""The help of a command says what holds there, though commands share their options."""

import re
from typing import Any

import pytest
import typer

from transfuse.cli import app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def texts(command: str) -> dict[str, Any]:
    return {parameter.opts[0]: parameter.help or "" for parameter in COMMANDS[command].params}


@pytest.mark.parametrize("command", COMMANDS)
def test_it_names_only_options_of_the_command(command: str) -> None:
    own = {option for parameter in COMMANDS[command].params for option in parameter.opts}
    named = {(of, name) for of, text in texts(command).items() for name in re.findall(r"(?<!\w)--[a-z][a-z.-]*", text)}
    assert {(of, name) for of, name in named if name.rstrip(".") not in own} == set()


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [
        ("carry", "--match-on", "auto: both with --data, else weights. Default: auto."),
        ("carry", "--data", "`generated`: texts that TUNED"),
        ("carry", "--adapter-out", "the difference of the result from NEW"),
        ("carry", "--effort", "quick fits layers and does not train"),
        ("carry", "--dtype", "auto: that of NEW"),
        ("path", "--match-on", "auto: activations for flow, else both. Default: auto."),
        ("path", "--samples", "Default: 200 for flow, else 2000."),
        ("path", "--steps", "Default: 500."),
        ("path", "--learning-rate", "Default: 0.01."),
        ("landscape", "--samples", "(with --match-on activations or both). Default: 2000."),
        ("doctor", "--merge", "auto: least-squares with --data, else mean."),
        ("report", "--limit", "Default: 2000."),
        ("shrink", "--samples", "only as many as training can process in the time allowed"),
    ],
)
def test_it_says_what_holds_there(command: str, option: str, words: str) -> None:
    text = texts(command)[option]
    assert words in text, text
