"""What is remembered of batches, and what is not."""

import torch

from transfuse.base.batch_cache import BatchCache


def batch() -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.zeros(2)}


def test_what_lasts_is_found_once_and_what_passes_each_time():
    lasting, found = [batch(), batch()], []

    def find(given):
        found.append(given)
        return torch.tensor([float(len(found))])

    memory = BatchCache(lasting, 1000)
    assert [float(memory.get_or_compute(each, find)) for each in [*lasting, *lasting]] == [1, 2, 1, 2]
    passing = batch()
    assert [float(memory.get_or_compute(passing, find)) for _ in range(2)] == [3, 4]


def test_no_more_is_remembered_than_there_is_room_for():
    lasting, found = [batch() for _ in range(3)], []

    def find(given):
        found.append(given)
        return torch.zeros(10)  # forty bytes

    memory = BatchCache(lasting, 80)
    for each in [*lasting, *lasting]:
        memory.get_or_compute(each, find)
    assert [id(each) for each in found] == [id(lasting[index]) for index in (0, 1, 2, 2)]
