"""A new output appears complete, and an error inside the block leaves everything as it was."""

import os
from pathlib import Path

import pytest
import torch
from outputs import tree
from safetensors.torch import save_file

from transfuse.checkpoint.writing.output import atomic_directory


def test_a_new_directory_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "out"
    with atomic_directory(target) as partial:
        assert partial.parent == target.parent
        assert list(partial.iterdir()) == []
        (partial / "config.json").write_text("new")
        (partial / "sub").mkdir()
        (partial / "sub" / "file").write_text("inner")
        assert not target.exists()
    assert tree(target) == {"config.json": "new", "sub": None, "sub/file": "inner"}
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_an_empty_directory_is_fine(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic_directory(tmp_path / "out") as partial:
        (partial / "a").write_text("new")
    assert tree(tmp_path) == {"out": None, "out/a": "new"}


def test_replace_leaves_nothing_of_the_old(model: Path) -> None:
    with atomic_directory(model, "replace") as partial:
        (partial / "config.json").write_text("new")
        assert (model / "config.json").read_text() == '{"model_type": "old"}'
    assert tree(model.parent) == {"model": None, "model/config.json": "new"}


@pytest.mark.parametrize("existing", ["nothing", "empty"])
def test_replace_needs_nothing_to_replace(tmp_path: Path, existing: str) -> None:
    if existing == "empty":
        (tmp_path / "out").mkdir()
    with atomic_directory(tmp_path / "out", "replace") as partial:
        (partial / "a").write_text("new")
    assert tree(tmp_path) == {"out": None, "out/a": "new"}


def test_a_link_to_a_directory_stays_a_link(model: Path) -> None:
    link = model.parent / "link"
    link.symlink_to(model)
    with atomic_directory(link, "replace") as partial:
        (partial / "config.json").write_text("new")
    assert link.is_symlink()
    assert tree(model) == {"config.json": "new"}


def test_a_relative_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_directory(Path("out")) as partial:
        (partial / "a").write_text("new")
        os.chdir("/")
    assert tree(tmp_path) == {"out": None, "out/a": "new"}


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_weights_are_as_readable_as_the_directory(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_directory(tmp_path / "out") as partial:
            save_file({"x": torch.zeros(2)}, partial / "model.safetensors")
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit, OSError])
@pytest.mark.parametrize("overwrite", ["refuse", "replace"])
def test_any_exception_leaves_everything_as_it_was(model: Path, error: type[BaseException], overwrite: str) -> None:
    target = model if overwrite == "replace" else model.parent / "deep" / "out"
    before = tree(model.parent)

    def work() -> None:
        with atomic_directory(target, overwrite) as partial:  # type: ignore[arg-type]
            (partial / "sub").mkdir()
            (partial / "sub" / "config.json").write_text("new")
            raise error("mine")

    with pytest.raises(error, match=r"^mine$") as caught:
        work()
    assert type(caught.value) is error
    assert tree(model.parent) == before


def test_parents_that_others_use_meanwhile_are_kept(tmp_path: Path) -> None:
    def work() -> None:
        with atomic_directory(tmp_path / "a" / "b" / "out"):
            (tmp_path / "a" / "other").write_text("theirs")
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        work()
    assert tree(tmp_path) == {"a": None, "a/other": "theirs"}
