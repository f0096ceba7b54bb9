"""Learned maps and weights, trust and the common basis from the command line."""

import json
from pathlib import Path

import pytest
import torch
from cli_inputs import Run, World, one_line, vit
from safetensors.torch import load_file
from transformers import ViTForImageClassification

from transfuse.config import options
from transfuse.distillation import loop, validation
from transfuse.merging.training import race


def record(folder: Path) -> dict[str, object]:
    return json.loads((folder / "transfuse.json").read_text())


MAPS, WEIGHTS = ("--align", "learned", "--merge", "mean"), ("--merge", "learned")


def learn(world: World, *more: object, what: tuple[str, ...] = MAPS) -> list[object]:
    given = ("--data", world.images, *what, "--steps", 4)
    return ["fuse", world.a, world.b, "-o", world.here / "out", *given, *more]


def test_learned_maps_keep_the_function_and_say_how_it_went(world: World, run: Run) -> None:
    ran = run(*learn(world))
    assert (ran.status, ran.err) == (0, "")
    found = record(world.here / "out")
    assert found["learning"]["steps"] == 4
    excess = dict(zip(found["learning"]["validated"], found["learning"]["excess"], strict=True))
    assert excess[found["learning"]["best"]] == min(excess.values())
    assert found["alignments"][0]["output_deviation"] < 1e-4
    assert [path.name for path in world.here.iterdir()] == ["out"]


def test_learned_weights_say_how_it_went_and_are_not_worse(world: World, run: Run) -> None:
    ran = run(*learn(world, what=WEIGHTS))
    assert (ran.status, ran.err) == (0, "")
    assert "weights learned" in ran.out or "training gained" in ran.out
    found = record(world.here / "out")
    assert (found["merge"], found["learned_weights"]["steps"]) == ("learned", 4)
    assert found["least_squares"]
    assert found["alignments"][0]["output_deviation"] < 1e-4
    assert "learning" not in found
    assert [path.name for path in world.here.iterdir()] == ["out"]


def test_the_default_trains_on_samples_and_says_what_training_needs(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "AUTO_MERGE", "learned")
    given = ("fuse", world.a, world.b, "-o", world.here / "out")
    ran = run(*given, "--effort", "quick")
    assert (ran.status, "--effort" in ran.err, list(world.here.iterdir())) == (2, True, [])
    assert run(*given, "--data", world.images, "--effort", "quick").status == 0
    found = record(world.here / "out")
    assert (found["merge"], found["learned_weights"]["steps"]) == ("learned", 0)


def test_learned_weights_follow_learned_maps(world: World, run: Run) -> None:
    assert run(*learn(world, what=("--align", "learned", "--merge", "learned"))).status == 0
    assert {"learning", "least_squares", "learned_weights"} <= record(world.here / "out").keys()


@pytest.mark.parametrize(("what", "state"), [(MAPS, "learning.pt"), (WEIGHTS, "weights.pt")])
def test_a_run_that_was_killed_goes_on_where_it_was(
    what: tuple[str, ...], state: str, world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation.Validation, "interval", lambda *_: 2)
    monkeypatch.setattr(race, "STEPS", (0, 0))
    whole = load_whole(world, run, what)

    def killed(self: loop.TrainingLoop) -> None:
        if self.steps == 2:
            raise KeyboardInterrupt
        step(self)

    step = loop.TrainingLoop.step
    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "step", killed)
        assert run(*learn(world, what=what)).status != 0
    work = world.here / "out.work"
    assert list(work.rglob(state))
    assert not (world.here / "out").exists()
    assert run(*learn(world, "--resume", what=what)).status == 0
    assert not work.exists()
    resumed = load_file(world.here / "out" / "model.safetensors")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def load_whole(world: World, run: Run, what: tuple[str, ...]) -> dict[str, torch.Tensor]:
    assert run(*learn(world, what=what)).status == 0
    found = load_file(world.here / "out" / "model.safetensors")
    for path in (world.here / "out").iterdir():
        path.unlink()
    (world.here / "out").rmdir()
    return found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--align", "learned"), ["--data"]),
        (("--merge", "learned"), ["--data"]),
        (("--steps", 3), ["--steps", "learned"]),
        (("--teacher-weighting", "labels", "--merge", "mean"), ["--teacher-weighting", "least-squares"]),
        (("--basis", "common", "--align", "flow"), ["--basis", "exact"]),
        (("--teacher-weighting", "labels"), ["--teacher-weighting", "--data"]),
        (("--resume",), ["--resume", "no interrupted run"]),
        (("--resume", "--cache", "kept"), ["--resume", "--cache"]),
    ],
)
def test_what_says_nothing_together_is_refused(
    more: tuple[object, ...], words: list[str], world: World, run: Run
) -> None:
    one_line(run("fuse", world.a, world.b, "-o", world.here / "out", *more), words)
    assert not list(world.here.iterdir())


def test_a_state_can_be_left_in_a_folder_that_is_not_there_yet(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation.Validation, "interval", lambda *_: 2)
    arguments = ["new/out" if each == world.here / "out" else each for each in learn(world)]
    monkeypatch.chdir(world.here)
    assert run(*arguments).status == 0


def test_resume_without_a_state(world: World, run: Run) -> None:
    one_line(run(*learn(world, "--resume")), ["--resume", "no interrupted run"])


def test_a_model_may_weigh_nothing(world: World, run: Run) -> None:
    given = ("-o", world.here / "out", "--basis", "common", "--weights", "0,1")
    assert run("fuse", world.a, world.b, *given).status == 0


def test_labels_are_needed_where_they_are_trusted(world: World, run: Run) -> None:
    given = ("-o", world.here / "out", "--teacher-weighting", "labels")
    one_line(run("fuse", world.a, world.b, *given, "--data", world.bare), ["label"])
    assert run("fuse", world.a, world.b, *given, "--data", world.images).status == 0


def test_three_models_meet_in_a_common_basis(world: World, run: Run) -> None:
    third = vit(world.here / "third", 9)
    for basis in ("anchor", "common"):
        arguments = ("fuse", world.a, world.b, third, "-o", world.here / basis, "--basis", basis)
        assert run(*arguments).status == 0
    ours, theirs = (load_file(world.here / basis / "model.safetensors") for basis in ("anchor", "common"))
    assert any((ours[name] - theirs[name]).abs().max() > 1e-3 for name in ours)
    assert all(each["output_deviation"] < 1e-4 for each in record(world.here / "common")["alignments"])


def test_work_on_other_samples_or_with_other_options_is_not_taken(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation.Validation, "interval", lambda *_: 2)
    given = ("--overwrite", "--cache", world.here / "cache")
    found = set()
    for more in ((), ("--samples", 12), ("--samples", 11), ("--seed", 1), ("--learning-rate", 0.1)):
        assert run(*learn(world, *given, *more)).status == 0
        now = set((world.here / "cache").rglob("learning.pt"))
        assert len(now) == len(found) + 1
        found = now


def test_an_interruption_while_measuring_says_that_the_model_is_written(
    world: World, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("transfuse.report.measure.measure", interrupted)
    out = world.here / "out"
    ran = run("fuse", world.a, world.b, "-o", out, "--data", world.images, "--merge", "mean")
    assert (ran.status, ran.out) == (130, "")
    assert ran.err.endswith(f"transfuse: interrupted; {out}: the model was written, but not its measurements\n")
    ViTForImageClassification.from_pretrained(out)
