"""A run that was cut short, wherever, ends as one that was not, and does nothing twice; a cache serves other runs."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cli_inputs import SIZES, Run, World, one_line
from comparisons import same_files
from datasets import Dataset
from interrupted_runs import Interrupter
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

import transfuse
from transfuse.activations import hooks
from transfuse.fusion.planning.plan import STARTUP_BYTES

ROOM = f"{STARTUP_BYTES // 2**20 + 1}MiB"  # too little to load the models
WAYS = {
    "flow": ("--align", "flow"),
    "hard flow": ("--align", "flow", "--flow.plan", "hard"),
    "exact": ("--merge", "mean"),
    "least squares": (),
    "learned weights": ("--merge", "learned", "--steps", 2),
    "streamed flow": ("--align", "flow", "--max-memory", ROOM),
    "streamed hard flow": ("--align", "flow", "--flow.plan", "hard", "--max-memory", ROOM),
    "streamed exact": ("--max-memory", ROOM),
}


def job(world: World, way: str, name: str = "out") -> list[object]:
    data = () if way.startswith("streamed") else ("--data", world.bare, "--samples", 10, "--batch-size", 3)
    return ["fuse", world.a, world.b, "-o", world.here / name, *data, *WAYS[way]]


@pytest.mark.parametrize("way", WAYS)
def test_cut_short_anywhere_it_goes_on(way: str, world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupter = Interrupter(monkeypatch)
    assert run(*job(world, way, "whole")).status == 0
    total, work = interrupter.kept, world.here / "out.work"
    assert total > 2
    for stop in sorted({1, 2, total // 3, total // 2, total - 1, total}):
        interrupter.kept, interrupter.stop = 0, stop
        ran = run(*job(world, way))
        assert ran.status == 130
        assert ran.err == f"transfuse: interrupted; the same command with --resume continues from {work}\n"
        assert work.is_dir()
        assert not (world.here / "out").exists()
        interrupter.stop = 10**9
        assert run(*job(world, way), "--resume").status == 0
        assert interrupter.kept == total, "something was made twice"
        assert not work.exists()
        assert same_files(world.here / "whole", world.here / "out")
        for each in (world.here / "out").iterdir():
            each.unlink()
        (world.here / "out").rmdir()


def kept_again(interrupter: Interrupter, ran: Sequence[object], run: Run) -> int:
    interrupter.kept = 0
    assert run(*ran).status == 0
    return interrupter.kept


def test_a_cache_serves_what_is_made_of_the_same(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupter, cache = Interrupter(monkeypatch), ("--cache", world.here / "cache")
    first = kept_again(interrupter, [*job(world, "exact"), *cache], run)
    assert first > 0
    assert kept_again(interrupter, [*job(world, "exact", "again"), *cache], run) == 0
    assert same_files(world.here / "out", world.here / "again")
    other = [*job(world, "exact", "weighted"), *cache, "--weights", "3,1"]
    assert kept_again(interrupter, other, run) == 0, "weights change no map"
    assert not same_files(world.here / "out", world.here / "weighted")
    assert kept_again(interrupter, [*job(world, "flow", "flow"), *cache], run) > 0
    hard = [*job(world, "flow", "hard"), *cache, "--flow.plan", "hard"]
    monkeypatch.setattr(hooks, "record_activations", None)  # nobody looks at the data again
    assert kept_again(interrupter, hard, run) > 0


def test_what_is_damaged_in_a_cache_is_made_again(world: World, run: Run) -> None:
    cache = ("--cache", world.here / "cache")
    assert run(*job(world, "least squares"), *cache).status == 0
    files = list((world.here / "cache").rglob("*.safetensors"))
    assert len(files) > 5
    for file in files:
        file.write_bytes(file.read_bytes()[:20])
    assert run(*job(world, "least squares", "again"), *cache).status == 0
    assert same_files(world.here / "out", world.here / "again")


def test_what_is_not_the_runs_own_stays(world: World, run: Run) -> None:
    """A folder that has the name by chance, be it an input."""
    plain = ["fuse", world.a, world.b, "-o", world.here / "out"]
    (world.here / "out.work").mkdir()
    (world.here / "out.work" / "thesis.txt").write_text("thesis")
    one_line(run(*plain), ["out.work", "intermediate results", "--cache"])
    one_line(run(*plain, "--resume"), ["--resume", "out.work"])
    assert (world.here / "out.work" / "thesis.txt").read_text() == "thesis"
    assert run(*plain, "--cache", world.here / "cache").status == 0
    model = world.damaged(lambda copy: copy.rename(world.here / "model.work"))
    one_line(
        run("fuse", world.here / "model.work", world.b, "-o", world.here / "model"),
        ["model.work", "intermediate results"],
    )
    assert not model.exists()
    assert (world.here / "model.work" / "config.json").exists()
    world.file("file.work", "text")
    one_line(run("fuse", world.a, world.b, "-o", world.here / "file"), ["file.work", "intermediate results"])


def test_a_cache_within_the_output_is_refused(world: World, run: Run) -> None:
    plain = ["fuse", world.a, world.b, "-o", world.here / "out"]
    for cache in (world.here / "out", world.here / "out" / "cache", ""):
        one_line(run(*plain, "--cache", cache), ["cache", "outside the output"])


def test_models_that_compute_otherwise_share_no_work(tmp_path: Path) -> None:
    """The same weights under another configuration are another model."""
    torch.manual_seed(0)
    given = [ViTForImageClassification(ViTConfig(**SIZES)).eval() for _ in range(2)]
    for each in given:
        with torch.no_grad():
            each.vit.layers[0].mlp.fc1.weight.mul_(30)
    pixels = torch.randint(256, (10, 8, 8), dtype=torch.uint8).numpy()
    data = Dataset.from_dict({"image": [Image.fromarray(each) for each in pixels]})
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])

    def fused() -> dict[str, torch.Tensor]:
        return dict(transfuse.fuse(given, data, processor=processor, cache=tmp_path / "cache").model.state_dict())

    before = fused()
    for each in given:
        each.config.hidden_act = "relu"
    twins = [ViTForImageClassification(each.config) for each in given]
    for twin, each in zip(twins, given, strict=True):
        twin.load_state_dict(each.state_dict())
    given[:] = [twin.eval() for twin in twins]
    after = fused()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_cache_that_cannot_be_written(world: World, run: Run) -> None:
    file = world.file("taken", "")
    one_line(run(*job(world, "exact"), "--cache", file), ["taken", "a file is in the way"])
    assert not (world.here / "out").exists()


def test_sizes_of_memory(world: World, run: Run) -> None:
    plain = ["fuse", world.a, world.b, "-o", world.here / "out"]
    one_line(run(*plain, "--max-memory", "8 apples"), ["--max-memory", "8GB"])
    one_line(run(*plain, "--max-memory", "1MB"), ["transfuse: --max-memory: ", "tensor by tensor"])
    one_line(run(*plain, "--max-memory", "1MB", "--data", world.bare), ["max-memory", "--data"])
