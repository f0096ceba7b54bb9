"""A run killed at any moment leaves an old output or a new one, whole; the same command then gives what it would."""

import os
import signal
import sys
from pathlib import Path

import pytest
from cli_inputs import Run, World, one_line
from safetensors.torch import load_file

from transfuse.base.lock import file_lock, output_lock, output_lock_path
from transfuse.checkpoint.writing.owned import MARKER
from transfuse.cli import main


def arguments(world: World, name: str = "out") -> list[str]:
    given = ["fuse", world.a, world.b, "-o", world.here / name, "--data", world.bare, "--samples", 10, "--overwrite"]
    return [str(each) for each in given]


class Clock:
    """Counts what reaches the disk, and ends the process at one of those moments."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.end = 0, -1
        sync, replace, rename = os.fsync, Path.replace, Path.rename
        patch.setattr(os, "fsync", lambda each: (sync(each), self.tick())[0])
        patch.setattr(Path, "replace", lambda path, to: (self.tick(), replace(path, to), self.tick())[1])
        patch.setattr(Path, "rename", lambda path, to: (self.tick(), rename(path, to), self.tick())[1])

    def tick(self) -> None:
        self.now += 1
        if self.now == self.end:
            os.kill(os.getpid(), signal.SIGKILL)


def started(given: list[str], stderr: str | Path = os.devnull) -> int:
    """Run a command in a process of its own, its complaints into `stderr`; its number."""
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT, 0o600), 2)
        sys.argv = ["transfuse", *given]
        try:
            main()
        except SystemExit as ended:
            os._exit(int(ended.code or 0))
        finally:
            os._exit(1)
    return child


def killed(clock: Clock, moment: int, given: list[str]) -> None:
    """Run the command in a process of its own that is killed then."""
    before, clock.now, clock.end = clock.now, 0, moment
    child = started(given)
    clock.now, clock.end = before, -1
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), "it ended before"


@pytest.mark.parametrize("before", ["nothing", pytest.param("an older output", marks=pytest.mark.slow)])
def test_killed_at_any_moment(before: str, world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, given = Clock(monkeypatch), arguments(world)
    assert run(*arguments(world, "due")).status == 0
    total, due = clock.now, load_file(world.here / "due" / "model.safetensors")
    assert total > 20
    if before == "an older output":
        assert run("fuse", world.a, world.b, "-o", world.here / "out", "--align", "none").status == 0
        total += 2  # it is put aside first
    step = 1 if before == "an older output" else 5
    for moment in (total // 2, *range(total - 12, total + 1, step)):
        killed(clock, moment, given)
        for there in [path for path in world.here.iterdir() if path.name == "out"]:
            assert {"config.json", "model.safetensors", "transfuse.json"} <= {path.name for path in there.iterdir()}
        assert run(*given).status == 0
        found = load_file(world.here / "out" / "model.safetensors")
        assert all((found[name] == values).all() for name, values in due.items())
        assert {path.name for path in world.here.iterdir()} == {"out", "due"}


def test_two_runs_on_one_output(world: World, run: Run) -> None:
    work = world.here / "out.work"
    work.mkdir()
    with file_lock(work / MARKER, "out"):
        one_line(run(*arguments(world)), ["out", "another run is writing it", "another output"])
        assert [path.name for path in work.iterdir()] == [MARKER]
    assert run(*arguments(world)).status == 0
    assert not work.exists()


def test_two_runs_on_one_output_that_share_a_cache(world: World, run: Run) -> None:
    cache, out = world.here / "cache", world.here / "out"
    cache.mkdir()
    left = out.with_name(".out.partial-deadbeef")
    left.mkdir()
    with file_lock(output_lock_path(out), "out"):
        one_line(run(*arguments(world), "--cache", cache), ["out", "another run is writing it"])
        assert run(*arguments(world, "other"), "--cache", cache).status == 0
        assert left.exists()
    assert run(*arguments(world), "--cache", cache).status == 0
    assert not left.exists()


@pytest.mark.parametrize("command", ["fuse", "carry", "finetune", "shrink"])
def test_what_killed_runs_left_is_removed(command: str, world: World, run: Run) -> None:
    """Unfinished outputs, and an old output that was set aside."""
    aside = world.here / ".out.replaced-deadbeef"
    weights = ["--weights", "0.9,0.1"]  # so near to the first model that carry takes it for a fine-tune
    assert run("fuse", world.a, world.b, "-o", aside, "--align", "none", *weights).status == 0
    (world.here / ".out.partial-deadbeef").mkdir()
    given = {
        "fuse": [world.a, world.b, "--align", "none"],
        "carry": [world.a, aside, world.b],
        "finetune": [world.a, "--data", world.images],
        "shrink": [world.a, "--data", world.bare, "--layers", 1, "--effort", "quick"],
    }
    assert run(command, *given[command], "-o", world.here / "out").status == 0
    assert {path.name for path in world.here.iterdir()} == {"out"}


@pytest.mark.parametrize("cache", [[], ["--cache", "one"], ["--cache", "two"]])
def test_one_lock_for_an_output_whatever_the_cache(cache: list[str], world: World, run: Run) -> None:
    given = [*arguments(world), *(str(world.here / each) if each in ("one", "two") else each for each in cache)]
    with output_lock(world.here / "out"):
        one_line(run(*given), ["out", "another run is writing it"])
        assert not (world.here / "out.work").exists()
        assert run("finetune", world.a, "--data", world.images, "-o", world.here / "out", "-q").status == 2
    assert run(*given).status == 0
    assert {path.name for path in world.here.iterdir()} == {"out", *cache[1:]}


def test_other_files_in_the_folder_of_the_work_stay(world: World, run: Run) -> None:
    (world.here / "out.work").mkdir()
    for name in (MARKER, "notes.txt"):
        (world.here / "out.work" / name).write_text("mine")
    assert run(*arguments(world)).status == 0
    assert {path.name for path in (world.here / "out.work").iterdir()} == {MARKER, "notes.txt"}


def test_two_runs_on_one_cache(world: World, run: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    """At once; whatever each takes of the other, both end as one alone does."""
    cache = ["--cache", str(world.here / "cache")]
    complaints = [tmp_path_factory.mktemp("stderr") / name for name in ("one", "two")]
    children = [started([*arguments(world, each.name), *cache], each) for each in complaints]
    found = [os.waitpid(child, 0)[1] for child in children]
    assert found == [0, 0], [each.read_text() for each in complaints]
    assert run(*arguments(world, "alone")).status == 0
    due = load_file(world.here / "alone" / "model.safetensors")
    for name in ("one", "two"):
        tensors = load_file(world.here / name / "model.safetensors")
        assert all((tensors[key] == values).all() for key, values in due.items())
    assert not list((world.here / "cache").rglob("*partial*"))
