"""A target is refused before any work if it would overwrite files that must stay, or cannot be created."""

import os
from pathlib import Path

import pytest
from outputs import refuses, tree

from transfuse.checkpoint.writing.output import atomic_directory, check_outside, check_target
from transfuse.errors import ConfigError, OutputError


def test_check_target_leaves_no_trace_and_gives_the_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_target(Path("a/b/c")) == tmp_path / "a" / "b" / "c"
    assert tree(tmp_path) == {}


def test_a_directory_with_files_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    refuses("is not empty.*--overwrite", tmp_path / "out")
    assert tree(tmp_path) == before


def test_only_replace_and_true_replace_a_model(model: Path) -> None:
    before = tree(model)
    for refusal in ("refuse", False):
        refuses("is not empty", model, overwrite=refusal)
        with pytest.raises(OutputError, match="is not empty"), atomic_directory(model, refusal):  # type: ignore[arg-type]
            pass
    for other in (None, "no", 1, []):
        with pytest.raises(ConfigError, match=r"overwrite: .* is not one of refuse, replace"):
            check_target(model / "new", other)  # type: ignore[arg-type]
    assert tree(model) == before
    for replacement in ("replace", True):
        assert check_target(model, replacement) == model  # type: ignore[arg-type]
    with atomic_directory(model, True) as folder:
        (folder / "new").touch()
    assert tree(model).keys() == {"new"}


@pytest.mark.parametrize("overwrite", ["refuse", "replace"])
def test_a_file_in_the_way(tmp_path: Path, overwrite: str) -> None:
    (tmp_path / "out").write_text("mine")
    refuses("a file is in the way", tmp_path / "out", overwrite=overwrite)
    assert tree(tmp_path) == {"out": "mine"}


@pytest.mark.parametrize("names", [["notes.txt"], ["model.safetensors"], ["config.json", ".git"]])
def test_only_what_looks_like_an_output_is_replaced(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).write_text("mine")
    before = tree(tmp_path)
    refuses("does not look like a model output", tmp_path / "out", overwrite="replace")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "name", ["notes.txt", "training_args.bin", "checkpoint-100/optimizer.pt", "runs/events", ".env"]
)
def test_what_is_no_output_is_named_and_kept(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("mine")
    before, first = tree(model), name.split("/")[0] + ("/" if "/" in name else "")
    refuses(f"holds {first}, .*move {first}, or choose another directory", model, overwrite="replace")
    assert tree(model) == before


def test_the_home_directory_is_never_replaced(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(model))
    refuses("must stay", Path("~"), overwrite="replace")
    monkeypatch.setenv("HOME", str(model / "home"))
    refuses("must stay", model, overwrite="replace")


def test_the_current_directory_is_never_replaced(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model)
    refuses("must stay", Path("."), overwrite="replace")


@pytest.mark.parametrize("overwrite", ["refuse", "replace"])
def test_an_input_is_never_the_target(model: Path, overwrite: str) -> None:
    link = model.parent / "link"
    link.symlink_to(model)
    for target, source in ((model, model), (link, model), (model, link), (model, model / "sub"), (model.parent, model)):
        refuses("must stay", target, overwrite=overwrite, inputs=[Path("elsewhere"), source])


@pytest.mark.parametrize("name", ["config.json", "class/one.png"])
def test_what_an_input_links_to_is_never_replaced(model: Path, name: str) -> None:
    source = model.parent / "source"
    (source / name).parent.mkdir(parents=True)
    (source / name).symlink_to(model / "config.json")
    (source / "all").symlink_to(model)  # a folder beside the files is no input
    refuses(f"model: holds the file that .*source/{name} links to", model, overwrite="replace", inputs=[source])
    (source / name).unlink()
    check_target(model, "replace", [source])


@pytest.mark.parametrize("config", ['{"database": "postgres://"}', "[]", "{"])
def test_a_configuration_of_something_else_is_kept(model: Path, config: str) -> None:
    (model / "config.json").write_text(config)
    refuses("names no model_type and no architectures, so it does not look like", model, overwrite="replace")
    assert tree(model) == {"config.json": config, "model.safetensors": "old weights"}


def test_a_damaged_record_is_named(model: Path) -> None:
    (model / "README.md").write_text("---\ntags:\n- transfuse\n---\n")
    (model / "transfuse.json").write_text("{")
    refuses(r"model: its transfuse\.json is damaged, .*remove transfuse\.json", model, overwrite="replace")


def test_a_target_inside_or_beside_an_input_is_fine(model: Path) -> None:
    check_target(model / "fused", inputs=[model])
    check_target(model.parent / "model-2", inputs=[model])


@pytest.mark.parametrize("tail", ["out", "deep/er/out"])
def test_a_parent_that_is_a_file(tmp_path: Path, tail: str) -> None:
    (tmp_path / "file").write_text("mine")
    refuses("cannot be written", tmp_path / "file" / tail)
    assert tree(tmp_path) == {"file": "mine"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")
def test_a_parent_where_nothing_can_be_created() -> None:
    refuses("cannot be written", Path("/proc/out"))


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_a_read_only_parent(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere; /proc stands in for it")
    tmp_path.chmod(0o500)
    refuses("cannot be written", tmp_path / "out")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    refuses("cannot be written", tmp_path / ("x" * 250))


def test_links_that_go_round_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    refuses("cannot be written", tmp_path / "a" / "out")


def test_an_output_among_the_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "rows.csv").touch()
    for target in (tmp_path / "data", tmp_path / "data" / "new" / "out"):
        with pytest.raises(OutputError, match=r"lies in .*data, so that its files would be read as data; choose"):
            check_outside(target, None, "a-name-on-the-hub", tmp_path / "data")
    check_outside(tmp_path / "database", str(tmp_path / "data"), tmp_path / "rows.csv")
