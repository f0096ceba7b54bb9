"""Replacing an output keeps what others add meanwhile, restores the old one on failure, and leaves no stale folders."""

import shutil
from pathlib import Path

import pytest
from outputs import tree

from transfuse.base.lock import folder_lock
from transfuse.checkpoint.writing.locked_output import remove_stale_folders
from transfuse.checkpoint.writing.output import atomic_directory
from transfuse.errors import OutputError


def replace(model: Path) -> None:
    with atomic_directory(model, "replace") as partial:
        (partial / "config.json").write_text("new")


def test_files_that_come_into_the_target_meanwhile_are_kept(tmp_path: Path) -> None:
    def work() -> None:
        with atomic_directory(tmp_path / "out") as partial:
            (partial / "a").write_text("new")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "b").write_text("theirs")

    with pytest.raises(OutputError, match="cannot be completed"):
        work()
    assert tree(tmp_path) == {"out": None, "out/b": "theirs"}


def test_an_output_that_vanishes_meanwhile_leaves_the_old(model: Path) -> None:
    def work() -> None:
        with atomic_directory(model, "replace") as partial:
            shutil.rmtree(partial)

    before = tree(model.parent)
    with pytest.raises(OutputError, match="cannot be completed"):
        work()
    assert tree(model.parent) == before


@pytest.mark.parametrize(("error", "seen"), [(OSError("busy"), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)])
def test_the_old_is_put_back_if_the_new_cannot_take_its_place(
    model: Path, error: BaseException, seen: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Path, target: Path) -> None:
        assert not target.exists()  # the old is aside by now
        raise error

    before = tree(model.parent)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(seen):
        replace(model)
    assert tree(model.parent) == before


@pytest.mark.parametrize("name", ["notes.txt", "runs/events"])
def test_what_comes_into_a_replaced_output_meanwhile_is_kept(model: Path, name: str) -> None:
    before = tree(model)

    def work() -> None:
        with atomic_directory(model, "replace") as partial:
            (partial / "config.json").write_text("new")
            (model / name).parent.mkdir(exist_ok=True)
            (model / name).write_text("mine")

    with pytest.raises(OutputError, match=f"model: holds {name.split('/')[0]}.*is not replaced"):
        work()
    assert tree(model) == before | ({"runs": None} if "/" in name else {}) | {name: "mine"}
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_what_comes_just_before_the_swap_is_kept(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old folder has been put aside when it is looked at for the last time."""
    rename = Path.rename

    def late(path: Path, target: Path) -> Path:
        if path == model:
            (path / "notes.txt").write_text("mine")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)

    before = tree(model.parent)
    with pytest.raises(OutputError, match=r"model: holds notes\.txt"):
        replace(model)
    assert tree(model.parent) == before | {"model/notes.txt": "mine"}


def test_a_folder_put_aside_by_a_killed_run_goes_unless_it_holds_what_is_not_ours(model: Path) -> None:
    aside = [model.with_name(f".model.replaced-0000000{number}") for number in range(2)]
    for each in aside:
        shutil.copytree(model, each)
    (aside[1] / "notes.txt").write_text("mine")
    remove_stale_folders(model, "replaced")
    assert sorted(path.name for path in model.parent.iterdir()) == [aside[1].name, "model"]


def test_remains_that_a_live_run_holds_stay(model: Path) -> None:
    left = model.with_name(".model.partial-deadbeef")
    left.mkdir()
    with atomic_directory(model, "replace") as partial:
        (partial / "config.json").write_text("new")
        remove_stale_folders(model, "partial")
        assert partial.is_dir()
        assert not left.exists()
    assert tree(model) == {"config.json": "new"}
    aside = model.with_name(".model.replaced-deadbeef")
    shutil.copytree(model, aside)
    (aside / "config.json").write_text('{"model_type": "old"}')
    (aside / "model.safetensors").write_text("old weights")
    with folder_lock(aside, "model"):
        remove_stale_folders(model, "replaced")
        assert aside.is_dir()
    remove_stale_folders(model, "replaced")
    assert not aside.exists()
