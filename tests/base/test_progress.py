"""The bar on a terminal has a total only if it is known."""

import io
from collections.abc import Iterable

import pytest
from rich.console import Console

from transfuse.base import progress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal would show."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, force_interactive=True)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)
    return written


@pytest.mark.parametrize(("items", "shown"), [(range(3), True), (iter(range(3)), False)])
def test_a_total_is_shown_if_it_is_known(items: Iterable[int], shown: bool, screen: io.StringIO) -> None:
    assert list(progress.Terminal().track(items, "aligning")) == [0, 1, 2]
    assert "aligning" in screen.getvalue()
    assert ("3/3" in screen.getvalue()) is shown
    assert ("/" in screen.getvalue()) is shown


def test_a_notebook_gets_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(stderr=True, force_jupyter=True))
    monkeypatch.setattr(progress, "SECONDS_PER_LINE", 0)
    assert list(progress.Terminal().track([0, 1], "aligning")) == [0, 1]
    lines = ["transfuse: aligning", "transfuse: aligning, 1 of 2", "transfuse: aligning, 2 of 2"]
    assert capsys.readouterr().err.splitlines() == lines
    assert list(progress.Terminal(bars=False).track([0, 1], "aligning")) == [0, 1]
    assert not capsys.readouterr().err


def test_a_warning_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = progress.Terminal()
    for line in ("a", "b", "a"):
        terminal.warn(line)
    assert capsys.readouterr().err == "transfuse: a\ntransfuse: b\n"
