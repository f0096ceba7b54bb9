"""The order in which training batches are drawn."""

import pytest

from transfuse.base.distributed import ProcessGroup
from transfuse.distillation import batch_order
from transfuse.distillation.batch_order import BatchOrder


def test_all_batches_are_drawn_before_any_is_again() -> None:
    order = BatchOrder(7, seed=0)
    rounds = [[order.draw() for _ in range(7)] for _ in range(3)]
    assert all(sorted(numbers) == list(range(7)) for numbers in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


def test_a_resumed_order_goes_on() -> None:
    order, resumed, other = BatchOrder(7, seed=0), BatchOrder(7, seed=1), BatchOrder(3, seed=1)
    for _ in range(4):
        order.draw()
    state = order.state_dict()
    expected = [order.draw() for _ in range(10)]
    resumed.load_state_dict(state)
    assert [resumed.draw() for _ in range(10)] == expected
    other.load_state_dict(state)  # where the samples are cut into fewer batches
    assert {other.draw() for _ in range(9)} == {0, 1, 2}


def test_processes_share_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    for rank in range(3):
        monkeypatch.setattr(batch_order, "process_group", lambda rank=rank: ProcessGroup(rank, 3))
        order = BatchOrder(6, seed=0)
        drawn += [order.draw(), order.draw()]
    assert sorted(drawn) == list(range(6))
