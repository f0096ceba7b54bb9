"""A carried model is trained to be the tuned model on one set of samples, and the new base on another."""

import copy

import pytest
import torch
from cases import CASES

from transfuse.base.batch import cast, validation_split
from transfuse.config.literals import LearningOptions
from transfuse.distillation.validation import BatchSplit
from transfuse.merging.training import learned_weights
from transfuse.merging.training.learned_carry import CarryDistillation

CASE = CASES[0]
MODELS = [CASE.build(seed) for seed in (1, 2, 3)]  # as if they were new base, base and tuned model in one basis


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of few samples, since models are tiny."""
    monkeypatch.setattr(learned_weights, "MIN_ANSWERS", 8)


def batches(seed: int) -> BatchSplit:
    return validation_split([cast(CASE.inputs(MODELS[0].config, seed + part), torch.float64) for part in range(20)])


def loop(steps: int, kept: BatchSplit | None, keeps_answers: bool = True) -> CarryDistillation:
    carried = CASE.build(4)
    options = LearningOptions(steps=steps, augment="none")
    return CarryDistillation(carried, MODELS, [1.0, -1.0, 1.0], batches(0), kept, options, keeps_answers)


def gap(model: torch.nn.Module, other: torch.nn.Module, seed: int) -> float:
    """How far the logits of two models are from each other on some batches."""
    with torch.no_grad():
        parts = [(model(**batch).logits - other(**batch).logits).square().mean() for batch in batches(seed)[0]]
    return float(torch.stack(parts).mean())


def test_it_follows_the_tuned_model_on_the_task_and_the_new_base_on_the_rest() -> None:
    untrained = CASE.build(4)
    found = loop(50, batches(100))
    found.run("weights")
    assert gap(found.fused, MODELS[2], 0) < 0.8 * gap(untrained, MODELS[2], 0)
    assert gap(found.fused, MODELS[0], 100) < 0.8 * gap(untrained, MODELS[0], 100)
    alone = loop(50, None)
    alone.run("weights")
    assert gap(alone.fused, MODELS[0], 100) > gap(found.fused, MODELS[0], 100)


def test_without_a_head_of_its_own_only_the_streams_of_the_new_base_are_kept() -> None:
    found = loop(2, batches(100), keeps_answers=False)
    kept = found.keeping
    assert kept is not None
    batch = batches(100)[0][0]
    with torch.no_grad():
        loss = float(kept.loss(batch))
        twin = copy.deepcopy(MODELS[0])
        kept.fused = twin
        assert float(kept.loss(batch)) < 1e-9 < loss
        next(module for name, module in twin.named_modules() if name == "classifier").weight.mul_(3.0)
        assert float(kept.loss(batch)) < 1e-9  # whatever the head predicts


def test_it_goes_on_where_its_state_was_saved() -> None:
    found = loop(6, batches(100))
    for _ in range(3):
        found.step()
    state = copy.deepcopy(found.state_dict())
    again = loop(6, batches(100))
    again.load_state_dict(state)
    for each in (found, again):
        for _ in range(3):
            each.step()
    for first, second in zip(found.fused.parameters(), again.fused.parameters(), strict=True):
        torch.testing.assert_close(first, second)


def test_a_start_draws_the_samples_to_keep_from_the_first_one_on() -> None:
    losses = []
    found = loop(6, batches(100))
    for _ in range(2):
        found.start_from(CASE.build(4))
        assert found.keeping is not None
        losses.append([float(found.keeping.next_loss()) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1])
