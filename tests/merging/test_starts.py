"""Where learned weights start: from whatever held-out samples prefer."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES

from transfuse.base.batch import validation_split
from transfuse.base.cache import Store
from transfuse.checkpoint.record.outcome import growth_is_unused, learning_line
from transfuse.config.literals import FITTED_LAYERS, LearningOptions
from transfuse.distillation import validation
from transfuse.distillation.teacher_weighting import uniform
from transfuse.merging.methods import merge_learned, merge_least_squares
from transfuse.merging.request import MergeRequest
from transfuse.merging.training import learning, race
from transfuse.merging.training.learned_weights import WeightDistillation
from transfuse.merging.training.race import StartChoice
from transfuse.merging.training.starts import PREDICTIONS_ONLY, choose_start
from transfuse.network.model import network

CASE = CASES[0]
QUICK = LearningOptions(minutes=0.0)
IMAGES = torch.cat([CASE.inputs(CASE.build().config, seed)["pixel_values"] for seed in range(100)]).double()
BATCHES = [{"pixel_values": images} for images in IMAGES.split(10)]


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of 5, 15 and 30 steps instead of 25, 75 and 150."""
    monkeypatch.setattr(validation.Validation, "interval", lambda *_: 5)
    monkeypatch.setattr(race, "STEPS", (5, 15, 30, 35))


def broken() -> torch.nn.Module:
    """The first model with noise on every matrix."""
    model = CASE.build(1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.add_(0.3 * weight.std() * torch.randn(weight.shape, generator=generator).to(weight))
    return model


def loop(options: LearningOptions, parents: list[torch.nn.Module]) -> WeightDistillation:
    weights = [1 / len(parents)] * len(parents)
    halves = validation_split(BATCHES)
    return WeightDistillation(CASE.build(3), parents, weights, halves, options, uniform, (), 0)


def test_without_training_the_nearest_start_is_taken() -> None:
    whole = CASE.build(1)
    found = loop(QUICK, [whole])
    choice = choose_start(found, {"broken": broken(), "whole": whole, "another": CASE.build(2)})
    assert choice.start == choice.best == "whole"
    torch.testing.assert_close(CASE.logits(found.fused), CASE.logits(whole))
    assert min(choice.losses, key=lambda name: choice.losses[name]) == "whole"


def test_the_chosen_start_goes_on_where_its_first_steps_ended() -> None:
    found = loop(LearningOptions(steps=40), [CASE.build(1)])
    choice = choose_start(found, {"another": CASE.build(2), "broken": broken()})
    assert choice.start == "broken"
    assert set(choice.losses) == {"another", "broken", FITTED_LAYERS}
    assert found.steps in (15, 30, 35)  # more than 15 if another start catches up
    assert len(found.validation_losses) == 1 + found.steps // 5


@pytest.mark.parametrize(
    ("losses", "chosen", "steps"),
    [
        ({0: (0.0, 1.0), 5: (-0.4, -0.35), 15: (-0.6, -0.58), 30: (-0.7, -0.75)}, "second", 30),
        ({0: (0.0, 1.0), 5: (-0.4, 0.0), 15: (-0.6, -0.5), 30: (-0.7, -0.62)}, "first", 30),
        ({0: (0.0, 1.0), 5: (-0.4, 0.0), 15: (-0.6, -0.5), 30: (-0.7, -0.64), 35: (-0.8, -0.9)}, "second", 35),
        ({0: (0.0, 1.0), 5: (-0.4, -0.2), 15: (-0.6, -0.42)}, "first", 15),  # no longer catches up
        ({0: (0.0, 1.0), 5: (-0.4, 0.6), 15: (-0.6, -9.0)}, "first", 15),  # was left after the first round
    ],
)
def test_a_parent_that_catches_up_stays_in_the_race(
    losses: dict[int, tuple[float, float]], chosen: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of two parents are given; those of the fitted layers stay at one."""
    found = loop(LearningOptions(steps=40), [CASE.build(1)])
    parents = {"first": CASE.build(1), "second": CASE.build(2)}
    run = {"name": FITTED_LAYERS}
    states: dict[str, str] = {}  # what runs, by the number of a state
    start_from, state_dict, load = found.start_from, found.state_dict, found.load_state_dict

    def started(model: torch.nn.Module, streams: bool = True) -> None:
        run["name"] = next(name for name, parent in parents.items() if parent is model)
        start_from(model, streams)

    def saved() -> dict[str, Any]:
        states[str(len(states))] = run["name"]
        return state_dict() | {"number": str(len(states) - 1)}

    def loaded(state: dict[str, Any]) -> None:
        run["name"] = states[state["number"]]
        load(state)

    def measured() -> float:
        if run["name"] == FITTED_LAYERS:
            return 1.0
        last = max(step for step in losses if step <= found.steps)
        return losses[last][list(parents).index(run["name"])]

    monkeypatch.setattr(found, "start_from", started)
    monkeypatch.setattr(found, "state_dict", saved)
    monkeypatch.setattr(found, "load_state_dict", loaded)
    monkeypatch.setattr(found, "excess_loss", measured)
    assert choose_start(found, parents).start == chosen
    assert found.steps == steps


def test_the_fitted_layers_decide_for_all_whether_streams_are_matched() -> None:
    found = loop(LearningOptions(steps=15), [CASE.build(1)])
    choice = choose_start(found, {"broken": broken()}, compares_targets=True)
    (other,) = set(choice.losses) - {FITTED_LAYERS, FITTED_LAYERS + PREDICTIONS_ONLY}
    assert other in ("broken", "broken" + PREDICTIONS_ONLY)
    assert found.matches_streams == (other == "broken")


def test_streams_can_be_left_out_and_come_back() -> None:
    found = loop(LearningOptions(steps=25), [CASE.build(1)])
    batch = found.train_batches[0]
    with_streams = float(found.loss(batch).detach())
    found.start_from(None, streams=False)
    assert float(found.loss(batch).detach()) < with_streams
    state = found.state_dict()
    found.start_from(None)
    assert float(found.loss(batch).detach()) == with_streams
    found.load_state_dict(state)
    assert not found.matches_streams


def test_the_untrained_start_comes_back_if_training_only_harms() -> None:
    """Two copies of one model: nothing is nearer to both than either of them."""
    model = network(CASE.build(1), torch.device("cpu"))
    request = MergeRequest(
        anchor=model,
        parents=[model.tensors, copy.deepcopy(model.tensors)],
        weights=[0.5, 0.5],
        batches=BATCHES,
        learning=LearningOptions(steps=25),
    )
    fused = merge_learned(request)
    assert request.record["learned_weights"]["best"] == 0
    assert request.record["learned_weights"]["start"] in (FITTED_LAYERS, "model 1", "model 2")
    torch.testing.assert_close(CASE.logits(fused), CASE.logits(CASE.build(1)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("minutes", "is_fitted_to_all"), [(2.0, True), (0.0, False)])
def test_layers_are_fitted_to_held_out_samples_too_if_there_is_time(
    minutes: float, is_fitted_to_all: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [network(CASE.build(seed), torch.device("cpu")) for seed in (1, 2)]
    parents = [model.tensors for model in models]
    monkeypatch.setattr(learning, "_other_starts", lambda *_: {})
    monkeypatch.setattr(learning, "QUICK_MINUTES", minutes)
    request = MergeRequest(anchor=models[0], parents=parents, weights=[0.5, 0.5], batches=BATCHES, learning=QUICK)
    fused = merge_learned(request)
    fitted_to = BATCHES if is_fitted_to_all else validation_split(BATCHES)[0]
    expected = merge_least_squares(replace(request, batches=fitted_to))
    torch.testing.assert_close(CASE.logits(fused), CASE.logits(expected), atol=1e-6, rtol=1e-6)


def test_a_start_that_was_left_keeps_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent that was best after its first round, and is the result, was trained."""
    found = loop(LearningOptions(steps=40), [CASE.build(1)])
    choice = choose_start(found, {"broken": broken()})
    assert choice.best_steps in found.validated_at[1:]
    model = network(CASE.build(1), torch.device("cpu"))
    other = network(CASE.build(2), torch.device("cpu"))

    def left(loop: WeightDistillation, *_: object, **__: object) -> StartChoice:
        weights = copy.deepcopy(loop.best_weights)
        untrained = {FITTED_LAYERS: 1.0}
        return StartChoice("model 2", {"model 2": 1.0}, untrained, "model 1" + PREDICTIONS_ONLY, -1.0, 5, weights)

    monkeypatch.setattr(learning, "choose_start", left)
    request = MergeRequest(
        anchor=model,
        parents=[model.tensors, other.tensors],
        weights=[0.5, 0.5],
        batches=BATCHES,
        learning=LearningOptions(steps=5),
    )
    merge_learned(request)
    record = request.record["learned_weights"]
    assert (record["best"], record["start"], record["reached"]) == (5, "model 1" + PREDICTIONS_ONLY, -1.0)
    assert not growth_is_unused({"growth": {}, "learned_weights": record})
    assert "weights learned in 5 steps from model 1 (predictions only), 1.000 nats below" in learning_line(record)


def test_without_training_nothing_is_said_to_be_gained() -> None:
    history = {"start": "fitted layers", "reached": 0.5, "excess": [0.5], "best": 0, "refitted": True}
    untrained = learning_line(history | {"steps": 0})
    assert untrained.startswith("no training, so the layers were fitted again, this time to held-out samples too;")
    assert "gained" not in untrained
    assert learning_line(history | {"steps": 5}).startswith("training gained too little, so the layers were fitted")


def test_a_second_fit_does_not_mix_with_a_fit_to_other_samples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Layers that are fitted again, to some of the samples, are not those of a fit to all."""
    monkeypatch.setattr(learning, "MAX_FITTED_SAMPLES", 40)
    monkeypatch.setattr(learning, "_other_starts", lambda *_: {})
    models = [network(CASE.build(seed), torch.device("cpu")) for seed in (1, 2)]
    parents = [model.tensors for model in models]
    request = MergeRequest(anchor=models[0], parents=parents, weights=[0.5, 0.5], batches=BATCHES, learning=QUICK)
    expected = merge_least_squares(request)
    cached = replace(request, store=Store(tmp_path))
    learned = merge_learned(cached)
    fitted = merge_least_squares(cached)
    torch.testing.assert_close(CASE.logits(fitted), CASE.logits(expected))
    assert not torch.allclose(CASE.logits(learned), CASE.logits(expected), atol=1e-6)


def test_a_start_that_diverges_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loop(LearningOptions(steps=40), [CASE.build(1)])
    measured = found.excess_loss
    losses = iter([None, float("nan")])  # after 5 steps: the fitted layers as measured, then the first other start
    monkeypatch.setattr(found, "excess_loss", lambda: _first(losses, measured) if found.steps == 5 else measured())
    choice = choose_start(found, {"broken": broken(), "another": CASE.build(2)})
    assert not found.diverged
    assert choice.start != "broken"
    assert found.steps in (15, 30)


def _first(losses: Iterator[float | None], measure: Callable[[], float]) -> float:
    loss = next(losses, None)
    return measure() if loss is None else loss


def test_fitted_layers_that_are_not_numbers_are_not_chosen() -> None:
    for options in (QUICK, LearningOptions(steps=40)):
        found = loop(options, [CASE.build(1)])
        with torch.no_grad():
            next(found.fused.parameters()).fill_(float("nan"))
        found.start_from(None)
        choice = choose_start(found, {"broken": broken()})
        assert choice.start == choice.best == "broken"
