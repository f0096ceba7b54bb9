"""How long a training runs: until held-out samples stop improving, or until the time is used up."""

import pytest
import torch

from transfuse.distillation import schedule
from transfuse.distillation.schedule import MIN_VALIDATIONS, PATIENCE, FixedSteps, UntilFlat
from transfuse.distillation.validation import INTERVAL

COUNT = PATIENCE // INTERVAL  # validations that are compared with as many before


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(schedule, "time", found)
    return found


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)


def rate(taken: torch.optim.Optimizer) -> float:
    return taken.param_groups[0]["lr"]


def steps(run: UntilFlat, clock: Clock, count: int) -> None:
    for _ in range(count):
        clock.now += 1
        run.step()


def validated(run: UntilFlat, losses: list[float]) -> None:
    run.validated(losses, INTERVAL)


def test_rates_are_constant_and_then_fall_with_the_time(clock: Clock) -> None:
    taken = optimizer()
    run = UntilFlat([taken], seconds=1000)
    steps(run, clock, 200)
    validated(run, [1.0 / (1 + step) for step in range(3 * COUNT)])
    assert rate(taken) == 0.1
    steps(run, clock, 425)
    validated(run, [1.0 / (1 + step) for step in range(3 * COUNT)])
    assert rate(taken) == pytest.approx(0.05)
    assert not run.finished
    assert run.progress == pytest.approx(0.625)


def test_rates_fall_after_a_state_was_loaded(clock: Clock) -> None:
    """Loading a state replaces the parameter groups of an optimizer."""
    taken = optimizer()
    run = UntilFlat([taken], seconds=1000)
    steps(run, clock, 10)
    taken.load_state_dict(taken.state_dict())
    run.load_state_dict(run.state_dict())
    steps(run, clock, 980)
    assert rate(taken) < 0.01


def test_rates_fall_in_as_many_steps_once_held_out_samples_stop_improving(clock: Clock) -> None:
    taken = optimizer()
    run = UntilFlat([taken], seconds=1000)
    steps(run, clock, 210)
    validated(run, [1.0, 0.5, *[0.499] * 2 * COUNT])
    steps(run, clock, 105)
    assert rate(taken) == pytest.approx(0.05)
    assert not run.finished
    steps(run, clock, 105)
    assert run.finished
    assert rate(taken) == pytest.approx(0, abs=1e-9)


def test_a_start_that_is_lost_and_comes_back_goes_on(clock: Clock) -> None:
    """Fitted layers are worse after their first steps than before them."""
    run = UntilFlat([optimizer()], seconds=1000)
    steps(run, clock, 210)
    validated(run, [-1.2, *(-0.9 - 0.04 * number for number in range(2 * COUNT))])
    steps(run, clock, 200)
    assert not run.finished


def test_a_loss_that_fluctuates_while_it_falls_goes_on(clock: Clock) -> None:
    """The lowest loss may be an early one."""
    run = UntilFlat([optimizer()], seconds=1000)
    steps(run, clock, 200)
    falling = [1.0 - 0.002 * number - 0.1 * (number % 5 == 0) for number in range(2 * COUNT)]
    validated(run, [1.0, 0.8, *falling])
    steps(run, clock, 300)
    assert not run.finished


def test_few_losses_do_not_end_it(clock: Clock) -> None:
    run = UntilFlat([optimizer()], seconds=1000)
    steps(run, clock, 200)
    validated(run, [1.0, *[0.5] * (2 * COUNT - 1)])
    steps(run, clock, 300)
    assert not run.finished


def test_rare_validations_end_it_too(clock: Clock) -> None:
    run = UntilFlat([optimizer()], seconds=1000)
    steps(run, clock, 200)
    run.validated([1.0, *[0.5] * (2 * MIN_VALIDATIONS - 1)], PATIENCE)
    steps(run, clock, 100)
    assert not run.finished
    run.validated([1.0, *[0.5] * 2 * MIN_VALIDATIONS], PATIENCE)
    steps(run, clock, 300)
    assert run.finished


def test_it_also_ends_early_while_rates_fall(clock: Clock) -> None:
    taken = optimizer()
    run = UntilFlat([taken], seconds=1000)
    steps(run, clock, 300)
    validated(run, [1.0, 0.5, *[0.499] * 2 * COUNT])
    steps(run, clock, 299)
    assert not run.finished
    steps(run, clock, 1)
    assert run.finished


def test_it_ends_in_time(clock: Clock) -> None:
    taken = optimizer()
    run = UntilFlat([taken], seconds=100)
    run.spend(40)
    steps(run, clock, 35)
    assert rate(taken) == pytest.approx(0.1 / 3)
    steps(run, clock, 24)
    assert 0 < rate(taken) < 0.01
    steps(run, clock, 1)
    assert run.finished
    assert run.progress == 1


def test_what_was_spent_before_leaves_half_of_the_time(clock: Clock) -> None:
    run = UntilFlat([optimizer()], seconds=100)
    run.spend(1000)
    assert run.progress == 0.5


def test_no_time_is_no_step(clock: Clock) -> None:
    run = UntilFlat([optimizer()], seconds=0)
    run.spend(10)
    assert run.finished
    assert run.progress == 1


def test_it_resumes(clock: Clock) -> None:
    first, second = optimizer(), optimizer()
    run = UntilFlat([first], seconds=100)
    steps(run, clock, 80)
    again = UntilFlat([second], seconds=100)
    again.load_state_dict(run.state_dict())
    steps(again, clock, 5)
    clock.now -= 5
    steps(run, clock, 5)
    assert rate(second) == rate(first)


def test_a_number_of_steps_is_kept() -> None:
    taken = optimizer()
    run = FixedSteps([taken], 4)
    for _ in range(4):
        assert not run.finished
        taken.step()
        run.step()
    assert run.finished
