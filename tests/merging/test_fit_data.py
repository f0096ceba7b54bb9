"""The samples that layers are fitted to: as many as they need, and the weights of the parents for them."""

import torch

from transfuse.base.batch import batch_size
from transfuse.merging.fitting.fit_data import Split

BATCHES = [{"input_ids": torch.zeros(4, 2)} for _ in range(5)]


def test_as_many_batches_are_taken_as_are_needed():
    split = Split(BATCHES, lambda batch: torch.full((2, 4), 0.5))
    assert len(split.first(batch_size, 9).batches) == 3
    assert len(split.first(batch_size, 100).batches) == 5
    assert len(split.first(batch_size, 9).shares) == 3


def test_shares_are_common_only_if_they_are_the_same_for_all_samples():
    assert Split(BATCHES, lambda batch: torch.tensor([[0.25], [0.75]]).expand(2, 4)).common_shares == [0.25, 0.75]
    assert Split(BATCHES, lambda batch: torch.rand(2, 4)).common_shares == []
