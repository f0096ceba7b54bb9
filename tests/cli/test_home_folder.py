"""Paths that begin with ~: the home folder wherever a path is given, and a plain name if no user is called so."""

import os
from pathlib import Path

import pytest
from cli_inputs import Run, World, one_line


@pytest.fixture(autouse=True)
def home(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to work in is the home folder, too."""
    monkeypatch.setenv("HOME", str(world.here))
    monkeypatch.chdir(world.here)
    return world.here


def test_plots_and_files_are_in_the_home_folder(world: World, run: Run) -> None:
    one_line(
        run("path", world.a, world.b, "--data", world.images, "--plot=~/line.txt"), [f"{world.here}/line.txt: plots"]
    )
    world.file("job.yaml", f"models: [{world.a}, {world.b}]\noutput: ~/out\nalign: none\n")
    assert run("fuse", "--config=~/job.yaml").status == 0
    assert (world.here / "out").is_dir()
    assert not (world.here / "~").exists()
    one_line(run("eval", world.a, "--data", world.images, "--spec=~/own.py"), [f"{world.here}/own.py is not a Python"])


def test_a_name_that_only_begins_with_its_sign_is_a_plain_name(world: World, run: Run) -> None:
    one_line(run("fuse", "~nouser/x", world.b, "-o", "out"), ["~nouser/x: no such directory"])
    one_line(run("eval", world.a, "--data", "~none.jsonl"), ["~none.jsonl: no such file or folder"])
    os.symlink(world.b, "~b")
    assert run("fuse", world.a, "~b", "-o", "~nouser/out", "--maps", "~m.safetensors").status == 0
    assert Path("~m.safetensors").exists()
    assert run("eval", "~nouser/out", "--data", world.images).status == 0
