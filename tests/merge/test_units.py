"""Choosing units from second moments."""

import torch

from transfuse.merge.sums import sums
from transfuse.merge.units import forward_selection


def test_the_units_that_a_target_is_made_of_are_found():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 24, generator=generator)
    units = torch.arange(24).reshape(12, 2)
    made_of = [1, 4, 9]
    target = inputs[:, units[made_of].flatten()] @ torch.randn(6, 5, generator=generator) + 3.0
    found = forward_selection(sums(inputs, target, torch.ones(500)), units, 3, torch.tensor([24]))
    assert sorted(found) == made_of


def test_a_unit_is_not_taken_twice_for_what_another_says_already():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 400, 1, generator=generator)
    inputs = torch.cat([first, first, second], 1)
    found = forward_selection(
        sums(inputs, 3 * first + second, torch.ones(400)), torch.arange(3).unsqueeze(1), 2, torch.tensor([3])
    )
    assert found[1] == 2


def test_rows_count_by_their_weight():
    inputs = torch.tensor([[1.0], [1.0]])
    found = sums(inputs, torch.tensor([[0.0], [1.0]]), torch.tensor([1.0, 3.0])).without_ones()
    torch.testing.assert_close(found.solve(0.0, torch.zeros(1, 1).double()), torch.tensor([[0.75]]).double())
