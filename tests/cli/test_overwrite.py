"""Nothing of the user's is replaced: by no command, wherever it writes; the tool's own outputs are."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cli_inputs import Run, World, one_line
from transformers import ViTForImageClassification

import transfuse
from transfuse.checkpoint.writing.owned import DEMO_MARKER
from transfuse.cli.targets import check_demo
from transfuse.errors import OutputError

Commands = dict[str, Callable[[World], Sequence[object]]]
COMMANDS: Commands = {
    "fuse": lambda w: ["fuse", w.a, w.b, "-o", w.here / "out", "--align", "none", "--report", "--overwrite"],
    "finetune": lambda w: [
        *("finetune", w.a, "--data", w.images, "-o", w.here / "out", "--epochs", 1, "--batch-size", 6),
        *("--device", "cpu", "--overwrite"),
    ],
    "shrink": lambda w: [
        *("shrink", w.a, "--data", w.images, "-o", w.here / "out", "--layers", 1, "--effort", "quick"),
        *("--device", "cpu", "--batch-size", 6, "--overwrite"),
    ],
}  # fmt: skip
THEIRS = ["checkpoint-100/optimizer.pt", "runs/events", "notes.txt", "training_args.bin", ".git/HEAD", "model.py"]


def put(file: Path) -> str:
    """A file of the user's; what a refusal calls it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    return file.name


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_replaces_what_it_wrote_and_nothing_else(command: str, world: World, run: Run) -> None:
    given, out = COMMANDS[command](world), world.here / "out"
    for _ in range(2):
        ran = run(*given)
        assert ran.status == 0, ran
    assert {path.name for path in world.here.iterdir()} == {"out"}
    for name in THEIRS:
        put(out / name)
        before, first = world.listing(), name.split("/")[0]
        one_line(run(*given), [str(out), f"holds {first}", f"move {first}", "choose another directory"])
        assert world.listing() == before
        shutil.rmtree(out / first) if (out / first).is_dir() else (out / first).unlink()
    (out / "README.md").write_text("# Mine\n")
    before = world.listing()
    one_line(run(*given), ["holds README.md"])
    assert world.listing() == before


def test_each_replaces_the_output_of_the_other(world: World, run: Run) -> None:
    for command in ("fuse", "finetune", "fuse"):
        ran = run(*COMMANDS[command](world))
        assert ran.status == 0, ran
    assert (world.here / "out" / "report.html").is_file()


def test_save_in_python_does_the_same(world: World) -> None:
    fusion, out = transfuse.fuse([world.a, world.b], align="none"), world.here / "out"
    fusion.save(out)
    fusion.save(out, "replace")
    put(out / "notes.txt")
    before = world.listing()
    with pytest.raises(OutputError, match=r"out: holds notes\.txt"):
        fusion.save(out, "replace")
    assert world.listing() == before


@pytest.mark.parametrize("name", ["notes.txt", "checkpoint-last", "run.json.bak"])
def test_the_state_of_a_run_is_not_written_among_other_files(name: str, world: World, run: Run) -> None:
    put(world.here / "out.checkpoints" / name)
    before = world.listing()
    one_line(run(*COMMANDS["finetune"](world)), ["out.checkpoints", f"holds {name}", "move it"])
    assert world.listing() == before


def test_a_file_in_place_of_the_state_of_a_run(world: World, run: Run) -> None:
    put(world.here / "out.checkpoints")
    one_line(run(*COMMANDS["finetune"](world)), ["out.checkpoints", "training state", "move it"])
    assert (world.here / "out.checkpoints").read_text() == "mine"


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_report_does_not_replace_another_file(name: str, world: World, run: Run) -> None:
    out, there = world.here / "out", world.here / "there"
    assert run("fuse", world.a, world.b, "-o", out, "--align", "none").status == 0
    for folder in (out, there):
        put(folder / name)
        before = world.listing()
        one_line(run("report", out, "-o", folder), [str(folder / name), "move it", "-o"])
        assert world.listing() == before
    (there / name).unlink()
    put(there / "notes.txt")
    for _ in range(2):
        ran = run("report", out, "-o", there)
        assert ran.status == 0, ran
    assert {path.name for path in there.iterdir()} == {"report.html", "report.json", "notes.txt"}
    assert json.loads((there / "report.json").read_text())["record"]["models"]


def test_the_demo_writes_into_no_folder_of_models(world: World, run: Run) -> None:
    folder = world.here / "models"
    shutil.copytree(world.a, folder / "parent-1")
    before = world.listing()
    one_line(run("demo", "-o", folder), ["models", "was not made by the demo", "choose another folder", "-o"])
    assert world.listing() == before


def test_the_demo_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    check_demo(tmp_path / "absent")
    check_demo(tmp_path)
    put(tmp_path / "parent-1" / "config.json")
    with pytest.raises(OutputError, match="not made by the demo"):
        check_demo(tmp_path)
    put(tmp_path / DEMO_MARKER)
    check_demo(tmp_path)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("name", ["report.html", "report.json", "digits", "parent-2", "fused", "fused/notes.txt"])
def test_the_demo_replaces_no_other_file(name: str, tmp_path: Path) -> None:
    put(tmp_path / DEMO_MARKER)
    put(tmp_path / name)
    with pytest.raises(OutputError, match=name.split("/")[0]):
        check_demo(tmp_path)


def test_a_file_in_place_of_a_folder(world: World, run: Run) -> None:
    out, file = world.here / "out", world.here / "file"
    assert run("fuse", world.a, world.b, "-o", out, "--align", "none").status == 0
    put(file)
    for given in (
        ["demo", "-o", file],
        ["report", out, "-o", file],
        ["fuse", world.a, world.b, "-o", world.here / "new", "--cache", file],
    ):
        one_line(run(*given), [str(file), "a file is in the way"])
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_an_input_that_links_to_the_output(name: str, world: World, run: Run) -> None:
    out, linked = world.here / "out", world.here / "linked"
    shutil.copytree(world.a, out)
    shutil.copytree(world.a, linked)
    (linked / name).unlink()
    (linked / name).symlink_to(out / name)
    before = world.listing()
    given = ["-o", out, "--overwrite"]
    one_line(run("fuse", linked, world.b, *given), ["out", f"linked/{name} links to", "must stay"])
    one_line(run("finetune", linked, "--data", world.images, *given), ["out", f"linked/{name} links to"])
    assert world.listing() == before


def test_data_in_the_output_stay(world: World, run: Run) -> None:
    out = world.here / "out"
    shutil.copytree(world.a, out)
    shutil.copytree(world.images, out / "data") if Path(world.images).is_dir() else shutil.copy(world.images, out)
    data = out / "data" if (out / "data").is_dir() else out / Path(world.images).name
    before = world.listing()
    for given in (["fuse", world.b, world.a], ["finetune", world.b]):
        one_line(run(*given, "--data", data, "-o", out, "--overwrite"), [str(out)])
    assert world.listing() == before


def test_models_in_memory_are_not_written_over_where_they_came_from(world: World) -> None:
    a, b = (shutil.copytree(each, world.here / name) for each, name in ((world.a, "a"), (world.b, "b")))
    models = [ViTForImageClassification.from_pretrained(each) for each in (a, b)]
    fusion = transfuse.fuse(models, align="none")
    assert [each["path"] for each in fusion.record["models"]] == [None, None]
    for folder in (a, b):
        with pytest.raises(OutputError, match="must stay"):
            fusion.save(folder, "replace")
    fusion.save(world.here / "out")


def test_no_output_is_written_among_the_data(world: World, run: Run) -> None:
    data = shutil.copytree(world.images, world.here / "data")
    before = world.listing()
    for given in (["fuse", world.a, world.b], ["shrink", world.a, "--layers", 1], ["finetune", world.a]):
        one_line(run(*given, "--data", data, "-o", data / "out"), ["out: lies in", "would be read as data"])
    assert world.listing() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_an_output_only_passes_through_is_not_made(command: str, world: World, run: Run) -> None:
    given = [
        world.here / "missing" / ".." / "out" if each == world.here / "out" else each
        for each in COMMANDS[command](world)
    ]
    ran = run(*given, "--json")
    assert ran.status == 0, ran
    assert [path.name for path in world.here.iterdir()] == ["out"]
    if command == "finetune":
        assert json.loads(ran.out)["quality"]["models"]
