"""An output is all there or not at all, and what was there before is never lost to a failure."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from transfuse.base.lock import folder_lock
from transfuse.checkpoint.output import atomic_directory, check_target, remove_stale_folders, write_json
from transfuse.errors import OutputError


def tree(root: Path) -> dict[str, str | None]:
    """Everything under `root`, hidden or not: relative name to text, None for a directory."""
    return {
        str(path.relative_to(root)): path.read_text() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def refuses(words: str, target: Path, **options: Any) -> None:
    """Both ways in refuse `target` with one line, the second before its block runs."""
    for enter in (check_target, lambda *args, **kwargs: atomic_directory(*args, **kwargs).__enter__()):
        with pytest.raises(OutputError, match=words) as caught:
            enter(target, **options)
        assert "\n" not in str(caught.value)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """An output of before."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "old"}')
    (path / "model.safetensors").write_text("old weights")
    return path


# Success


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


def test_check_target_leaves_no_trace_and_gives_the_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_target(Path("a/b/c")) == tmp_path / "a" / "b" / "c"
    assert tree(tmp_path) == {}


# Failure inside


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
    def work() -> None:
        with atomic_directory(model, "replace") as partial:
            (partial / "config.json").write_text("new")

    def fail(self: Path, target: Path) -> None:
        assert not target.exists()  # the old is aside by now
        raise error

    before = tree(model.parent)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(seen):
        work()
    assert tree(model.parent) == before


# Refused at once


def test_a_directory_with_files_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    refuses("is not empty.*--overwrite", tmp_path / "out")
    assert tree(tmp_path) == before


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

    def work() -> None:
        with atomic_directory(model, "replace") as partial:
            (partial / "config.json").write_text("new")

    before = tree(model.parent)
    with pytest.raises(OutputError, match=r"model: holds notes\.txt"):
        work()
    assert tree(model.parent) == before | {"model/notes.txt": "mine"}


def test_a_folder_put_aside_by_a_killed_run_goes_unless_it_holds_what_is_not_ours(model: Path) -> None:
    aside = [model.with_name(f".model.replaced-0000000{number}") for number in range(2)]
    for each in aside:
        shutil.copytree(model, each)
    (aside[1] / "notes.txt").write_text("mine")
    remove_stale_folders(model, "replaced")
    assert sorted(path.name for path in model.parent.iterdir()) == [aside[1].name, "model"]


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


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a tiny file system needs root; the limit on file sizes stands in for it")
    yield disk
    subprocess.run(["umount", disk], check=True)


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: (path / "big").write_bytes(bytes(200_000)),
    "safetensors": lambda path: save_file({"x": torch.zeros(50_000)}, path / "model.safetensors"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk(small_disk: Path, write: Callable[[Path], object]) -> None:
    target = small_disk / "out"

    def work() -> None:
        with atomic_directory(target) as partial:
            write(partial)

    with pytest.raises(OutputError, match=f"^{target}: no space left.*choose another disk$"):
        work()
    assert tree(small_disk) == {}
    with atomic_directory(target) as partial:  # the space is free again
        (partial / "a").write_text("new")
    assert tree(small_disk) == {"out": None, "out/a": "new"}


def test_a_full_disk_leaves_the_old_json(small_disk: Path) -> None:
    write_json(small_disk / "report.json", {"a": 1})
    with pytest.raises(OutputError, match=r"report\.json: cannot be written \(No space left"):
        write_json(small_disk / "report.json", "x" * 200_000)
    assert tree(small_disk) == {"report.json": '{\n  "a": 1\n}\n'}


def test_a_mount_point(small_disk: Path) -> None:
    refuses("is a mount point", small_disk)
    check_target(small_disk / "out")


@pytest.mark.skipif(os.name != "posix", reason="limits on file sizes are POSIX")
def test_a_limit_on_file_sizes_counts_as_a_full_disk(tmp_path: Path) -> None:
    script = f"""
        import resource, signal, torch
        from pathlib import Path
        from safetensors.torch import save_file
        from transfuse.errors import OutputError
        from transfuse.checkpoint.output import atomic_directory
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        def safetensors(path): save_file({{"x": torch.zeros(50_000)}}, path / "model.safetensors")
        def python(path): (path / "big").write_bytes(bytes(200_000))
        for write in (safetensors, python):
            try:
                with atomic_directory(Path({str(tmp_path / "out")!r})) as partial:
                    write(partial)
            except OutputError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("out: no space left") == 2
    assert tree(tmp_path) == {}


# JSON


def test_json_is_written_and_replaced(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    write_json(tmp_path / "a.json", {"name": "é", "values": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "é", "values": [1, 2.5, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(("obj", "error"), [({"a": object()}, TypeError), ([float("nan")], ValueError)])
def test_what_has_no_json_leaves_the_old(tmp_path: Path, obj: object, error: type[Exception]) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(error):
        write_json(tmp_path / "a.json", obj)
    assert tree(tmp_path) == {"a.json": "1\n"}


def test_json_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "directory").mkdir()
    for path in (tmp_path / "file" / "a.json", tmp_path / "absent" / "a.json", tmp_path / "directory"):
        with pytest.raises(OutputError, match="cannot be written"):
            write_json(path, 1)
    assert tree(tmp_path) == {"file": "mine", "directory": None}
