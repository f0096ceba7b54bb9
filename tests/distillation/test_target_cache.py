"""Targets that do not fit on the device are kept on the host, and computed once."""

import torch
from torch import Tensor

from transfuse.base.batch import Batch
from transfuse.distillation.target_cache import TargetCache
from transfuse.distillation.targets import EnsembleTargets, GivenTargets
from transfuse.network.outputs import given_logits

CPU = torch.device("cpu")
BATCHES = [{"labels": torch.tensor([number, number])} for number in range(3)]
BYTES = 2 * 8  # of the targets of one batch


def counted() -> tuple[list[int], object]:
    computed: list[int] = []

    def compute(batch: Batch) -> GivenTargets:
        computed.append(int(batch["labels"][0]))
        return GivenTargets(batch["labels"].clone())

    return computed, compute


def test_each_is_computed_once_while_there_is_room_on_either_side() -> None:
    computed, compute = counted()
    cache = TargetCache(BATCHES, BYTES, CPU, host_capacity=BYTES)
    for _ in range(3):
        for batch in BATCHES:
            assert torch.equal(cache.get_or_compute(batch, compute)[:], batch["labels"])
    assert computed == [0, 1, 2, 2, 2]
    assert len(cache.on_device.results) == len(cache.on_host) == 1


def test_a_cpu_keeps_nothing_beyond_its_budget() -> None:
    computed, compute = counted()
    cache = TargetCache(BATCHES, 0, CPU)
    for _ in range(2):
        cache.get_or_compute(BATCHES[0], compute)
    assert computed == [0, 0]


def test_only_batches_that_recur_are_kept() -> None:
    computed, compute = counted()
    cache = TargetCache([], 0, CPU, host_capacity=BYTES)
    for _ in range(2):
        cache.get_or_compute(BATCHES[0], compute)
    cache.add(BATCHES[0])
    for _ in range(2):
        cache.get_or_compute(BATCHES[0], compute)
    assert computed == [0, 0, 0]


def test_targets_of_parents_move_as_a_whole() -> None:
    parents = [given_logits(torch.randn(4, 5)) for _ in range(2)]
    targets = EnsembleTargets(parents, torch.full((2, 4), 0.5))
    moved: list[Tensor] = []

    def change(values: Tensor) -> Tensor:
        moved.append(values)
        return values.double()

    doubled = targets.map(change)
    assert sum(values.nbytes for values in moved) == targets.nbytes
    torch.testing.assert_close(doubled[1:3], targets[1:3].double())
