"""States of a training that wait in memory, or in files."""

from pathlib import Path

import pytest
import torch
from cases import CASES

from transfuse.base import budget
from transfuse.base.batch import validation_split
from transfuse.config.literals import LearningOptions
from transfuse.distillation.teacher_weighting import uniform
from transfuse.errors import OutputError
from transfuse.merging.training import race
from transfuse.merging.training.idle_states import IdleStates
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.merging.training.starts import choose_start

CASE = CASES[0]
IMAGES = torch.cat([CASE.inputs(CASE.build().config, seed)["pixel_values"] for seed in range(20)])
BATCHES = [{"pixel_values": images} for images in IMAGES.split(10)]


def loop() -> WeightDistillation:
    halves = validation_split(BATCHES)
    return WeightDistillation(CASE.build(3), [CASE.build(1)], [1.0], halves, LearningOptions(steps=9), uniform, (), 0)


@pytest.fixture
def all_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(budget.CACHES, "idle states", 0)


def test_the_choice_is_the_same_with_states_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race, "STEPS", (2, 4, 6))
    starts = {"another": CASE.build(2), "the parent": CASE.build(1)}
    found = []
    for limit in (budget.CACHES["idle states"], 0):
        monkeypatch.setitem(budget.CACHES, "idle states", limit)
        training = loop()
        choice = choose_start(training, starts, tmp_path / "weights.pt")
        for _ in range(2):
            training.step()
        found.append((choice.start, choice.losses, training.fused.state_dict()))
    assert found[0][:2] == found[1][:2]
    assert all(torch.equal(found[0][2][name], values) for name, values in found[1][2].items())
    assert {path.name for path in tmp_path.iterdir()} == {"weights.pt", "start.pt"}


def test_a_state_does_not_change_while_it_waits() -> None:
    training = loop()
    states = IdleStates(Path("unused"))
    training.step()
    before = {name: values.clone() for name, values in training.fused.state_dict().items()}
    states.put("waiting", training)
    training.step()
    assert not all(torch.equal(before[name], values) for name, values in training.fused.state_dict().items())
    training.release()
    training.load_state_dict(states.pop("waiting"))
    assert training.steps == 1
    assert all(torch.equal(before[name], values) for name, values in training.fused.state_dict().items())


def test_weights_that_are_the_best_are_kept_once() -> None:
    training = loop()
    state = training.snapshot()
    assert state["weights"] is state["best_weights"] is training.best_weights
    training.step()
    state = training.snapshot()
    assert state["weights"] is not state["best_weights"]
    assert state["best_weights"] is training.best_weights


@pytest.mark.usefixtures("all_in_files")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(OutputError, match=f"^{in_the_way / 'folder'}: the state of the training cannot be written"):
        IdleStates(in_the_way / "folder").put("one", loop())
