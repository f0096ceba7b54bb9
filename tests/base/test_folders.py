"""Folders that two runs need at once: neither takes away what the other has made or is about to use."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from transfuse.base.folders import check_creatable, make_folder
from transfuse.checkpoint.writing.output import atomic_directory, check_target
from transfuse.errors import OutputError


def made_by(call: Callable[[], object], patch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that a call makes."""
    made, mkdir = [], os.mkdir

    def note(path: str | Path, *given: int) -> None:
        mkdir(path, *given)
        made.append(Path(path))

    with patch.context() as patched:
        patched.setattr(os, "mkdir", note)
        call()
    return made


@pytest.mark.parametrize("check", [lambda target: check_creatable(target / "file"), check_target])
def test_trying_makes_no_folder_that_another_run_may_use(
    check: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = made_by(lambda: check(tmp_path / "shared" / "deep" / "out"), monkeypatch)
    assert made
    assert not [path for path in made if path.is_relative_to(tmp_path / "shared")]
    assert list(tmp_path.iterdir()) == []


def test_trying_goes_as_deep_as_the_target(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        check_creatable(tmp_path / ("x" * 300) / "file")
    with pytest.raises(OSError, match="too long"):
        check_creatable(tmp_path / "deep" / "er" / ("x" * 250))
    with pytest.raises(FileNotFoundError):
        check_creatable(tmp_path / "absent" / "file", parents=False)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        check_creatable(tmp_path / "link" / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


class Remover:
    """Another run that removes a folder just after it was made, so often."""

    def __init__(self, folder: Path, times: int, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.left, self.mkdir = folder, times, os.mkdir
        patch.setattr(os, "mkdir", self.make)

    def make(self, path: str | Path, *given: int) -> None:
        self.mkdir(path, *given)
        if Path(path) == self.folder and self.left:
            self.left -= 1
            os.rmdir(path)


@pytest.mark.parametrize("times", [1, 3])
def test_a_parent_that_vanishes_is_made_again(times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Remover(tmp_path / "shared", times, monkeypatch)
    make_folder(tmp_path / "shared" / "cache")
    assert other.left == 0
    assert (tmp_path / "shared" / "cache").is_dir()


def test_an_output_below_a_parent_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Remover(tmp_path / "shared", 2, monkeypatch)
    with atomic_directory(tmp_path / "shared" / "out") as folder:
        (folder / "file").write_text("new")
    assert other.left == 0
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["out"]


def test_a_parent_that_always_vanishes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Remover(tmp_path / "shared", 10**6, monkeypatch)
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "shared" / "cache")
    with (
        pytest.raises(OutputError, match=r"shared/out: cannot be"),
        atomic_directory(tmp_path / "shared" / "out"),
    ):
        pytest.fail("there is nothing to write to")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(OSError, match=r"File exists|Not a directory"):
            make_folder(path)
    assert (tmp_path / "file").read_text() == "mine"


def test_many_runs_at_once(tmp_path: Path) -> None:
    """Runs that try, write and give up below one missing parent never meet an error but their own."""
    faults: list[BaseException] = []

    def work(number: int) -> None:
        for turn in range(40):
            target = tmp_path / f"shared-{turn}" / "deep" / f"out-{number}"
            start.wait(60)
            try:
                check_creatable(tmp_path / f"shared-{turn}" / "cache" / "file")
                with atomic_directory(target) as folder:
                    (folder / "file").write_text("new")
                    if number % 2:
                        raise KeyError(number)
            except KeyError:
                pass
            except BaseException as error:
                faults.append(error)

    start = threading.Barrier(4)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert faults == []
    for turn in range(40):
        left = {path.name for path in (tmp_path / f"shared-{turn}").rglob("*")}
        assert left == {"deep", "out-0", "out-2", "file"}
