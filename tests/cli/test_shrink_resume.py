"""`transfuse shrink` that was cut short, wherever, ends as one that was not, and does nothing twice."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import torch
from cli_inputs import Run, World, one_line
from comparisons import same_files
from interrupted_runs import Interrupter
from languages import TEXTS, gpt2, qwen3_moe, saved

import transfuse
from transfuse.base.cache import Store
from transfuse.cli import main
from transfuse.cli.targets import said_how_to_continue
from transfuse.distillation import loop, training_state, validation
from transfuse.errors import DiskFullError, MemoryLimitError

WAYS = {
    "the choice of sizes": ("a", "--ratio", 0.6, "--effort", "quick"),
    "training": ("a", "--layers", 1, "--steps", 3),
    "a narrower stream": ("a", "--hidden-size", 8, "--layers", 1, "--effort", "quick"),
    "experts": ("moe", "--experts", 1, "--effort", "quick", "--lines"),
    "fused layers": ("gpt2", "--layers", 1, "--effort", "quick", "--lines"),
}


def job(world: World, way: str, name: str = "out") -> list[object]:
    model, *flags = WAYS[way]
    if model in ("moe", "gpt2"):
        data = world.here / "texts.jsonl"
        data.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
        large = world.here / str(model)
        if not large.exists():
            saved(large, {"moe": qwen3_moe, "gpt2": gpt2}[str(model)], 1)
    else:
        large, data = getattr(world, str(model)), world.bare
    given = ("--data", data, "--device", "cpu", "--batch-size", 4)
    return ["shrink", large, "-o", world.here / name, *given, *flags]


def counted_states(interrupter: Interrupter, patch: pytest.MonkeyPatch) -> None:
    """Count the saved states of the training too."""
    save = training_state.save_state

    def counted(path: Path, state: dict[str, object]) -> None:
        save(path, state)
        interrupter.tick()

    patch.setattr(training_state, "save_state", counted)
    patch.setattr(loop, "SAVE_SECONDS", 0)
    patch.setattr(validation.Validation, "interval", lambda *_: 1)


@pytest.mark.parametrize("way", WAYS)
def test_cut_short_anywhere_it_goes_on(way: str, world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupter = Interrupter(monkeypatch)
    counted_states(interrupter, monkeypatch)
    assert run(*job(world, way, "whole")).status == 0
    total, work = interrupter.kept, world.here / "out.work"
    assert total > 4
    for number, stop in enumerate(sorted({1, total // 2, total - 1})):
        out = f"out{number}"
        work = world.here / f"{out}.work"
        interrupter.kept, interrupter.stop = 0, stop
        ran = run(*job(world, way, out))
        assert ran.status == 130
        assert ran.err == f"transfuse: interrupted; the same command with --resume continues from {work}\n"
        assert not (world.here / out).exists()
        interrupter.stop = 10**9
        assert run(*job(world, way, out), "--resume").status == 0
        assert interrupter.kept == total, "something was made twice"
        assert not work.exists()
        assert same_files(world.here / "whole", world.here / out)
        records = [json.loads((world.here / each / "transfuse.json").read_text()) for each in ("whole", out)]
        for name in ("blocks", "experts", "least_squares", "learned_weights", "tried_sizes"):
            assert records[0].get(name) == records[1].get(name)


def test_killed_it_goes_on(world: World, run: Run) -> None:
    given = job(world, "a narrower stream")
    if (child := os.fork()) == 0:
        keep, kept = Store.keep, []

        def last(store: Store, name: str, tensors: object, facts: object = None) -> None:
            keep(store, name, tensors, facts)  # type: ignore[arg-type]
            kept.append(name)
            if name == "stage 1":
                os.kill(os.getpid(), signal.SIGKILL)

        Store.keep = last  # type: ignore[method-assign]
        sys.argv = ["transfuse", *map(str, given), "-q"]
        try:
            main()
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    kept = {path.name for path in (world.here / "out.work").rglob("*.safetensors")}
    assert {"blocks.safetensors", "start.safetensors", "stage%201.safetensors"} <= kept
    assert not (world.here / "out").exists()
    assert run(*given).status == 0
    assert run(*job(world, "a narrower stream", "whole")).status == 0
    assert same_files(world.here / "whole", world.here / "out")
    assert {path.name for path in world.here.iterdir()} == {"out", "whole"}


@pytest.mark.parametrize("error", [MemoryLimitError, DiskFullError])
def test_a_run_for_which_space_did_not_suffice_says_how_to_go_on(tmp_path: Path, error: type[Exception]) -> None:
    short = error("max_memory: this run needs more than 1 GB; allow more")
    with pytest.raises(error, match=r"allow more$"), said_how_to_continue(tmp_path):
        raise short
    (tmp_path / "blocks.safetensors").touch()
    ending = re.escape(f"; allow more, and the same command with --resume continues from {tmp_path}")
    with pytest.raises(error, match=ending), said_how_to_continue(tmp_path):
        raise short


def test_work_of_other_options_is_not_taken(world: World, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupter, cache = Interrupter(monkeypatch), world.here / "cache"
    given = {"layers": 1, "effort": "quick", "device": "cpu"}
    first = transfuse.shrink(str(world.a), str(world.bare), cache=cache, **given).model
    made = interrupter.kept
    assert made > 0
    again = transfuse.shrink(str(world.a), str(world.bare), cache=cache, dtype="bfloat16", **given).model
    assert interrupter.kept == made
    weights = again.state_dict()
    assert all(torch.equal(values.bfloat16(), weights[name]) for name, values in first.state_dict().items())
    transfuse.shrink(str(world.a), str(world.bare), cache=cache, samples=10, **given)
    assert interrupter.kept == 2 * made


def test_what_is_not_there_or_not_its_own(world: World, run: Run) -> None:
    given = job(world, "a narrower stream")
    one_line(run(*given, "--resume"), ["--resume", "no interrupted run", "out.work"])
    (world.here / "out.work").mkdir()
    (world.here / "out.work" / "thesis.txt").write_text("thesis")
    one_line(run(*given), ["out.work", "shrink needs this name", "another output"])
    assert (world.here / "out.work" / "thesis.txt").read_text() == "thesis"
    assert not (world.here / "out").exists()
