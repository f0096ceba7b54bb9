"""Choosing units from second moments."""

import pytest
import torch

from transfuse.merging.fitting import gram as module
from transfuse.merging.fitting.forward_selection import forward_selection
from transfuse.merging.fitting.gram import accumulate, importance_sample
from transfuse.merging.fitting.layers import fit_layer
from transfuse.network.operations import Linear
from transfuse.network.space import Space


def sums(inputs, target, weights):
    return accumulate(None, module.gram_matrix(inputs, [target], weights))


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
    found = sums(inputs, torch.tensor([[0.0], [1.0]]), torch.tensor([1.0, 3.0])).without_bias()
    torch.testing.assert_close(found.solve(0.0, torch.zeros(1, 1).double()), torch.tensor([[0.75]]).double())


@pytest.mark.parametrize("columns", [1, 2, 7, 20])
def test_half_the_products_are_mirrored(monkeypatch, columns):
    monkeypatch.setattr(module, "PANEL_COLUMNS", columns)
    generator = torch.Generator().manual_seed(0)
    rows, weights = torch.randn(50, 13, generator=generator), torch.rand(50, generator=generator)
    one = torch.cat([rows, torch.ones(50, 1)], 1).double()
    found = sums(rows.double(), rows.double(), weights)
    torch.testing.assert_close(found.inputs, one.T @ (weights.double().unsqueeze(1) * one))
    twice = accumulate(found, module.gram_matrix(rows.double(), [rows.double()], weights))
    torch.testing.assert_close(twice.cross, 2 * one.T @ (weights.double().unsqueeze(1) * rows.double()))


def test_rows_that_are_drawn_stand_for_all():
    generator = torch.Generator().manual_seed(0)
    inputs, target = torch.randn(40_000, 3, generator=generator) + 1, torch.randn(40_000, 2, generator=generator)
    weights = torch.rand(40_000, generator=generator)
    weights[:50] = 1000.0
    drawn, counts = importance_sample(weights, 4000, 1)
    assert 3700 < len(drawn) < 4300
    assert set(range(50)) <= set(drawn.tolist())
    all_of_them, some = sums(inputs, target, weights), sums(inputs[drawn], target[drawn], counts)
    torch.testing.assert_close(some.inputs, all_of_them.inputs, rtol=0.05, atol=0.05 * float(all_of_them.inputs.max()))


def test_few_rows_are_all_kept():
    weights = torch.tensor([1.0, 2.0])
    drawn, counts = importance_sample(weights, 2, 0)
    assert drawn.tolist() == [0, 1]
    assert counts is weights


@pytest.mark.parametrize("pool", [1, 64])
def test_a_pool_changes_nothing(monkeypatch, pool):
    monkeypatch.setattr("transfuse.merging.fitting.forward_selection.POOL", pool)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 30, generator=generator) @ torch.randn(30, 30, generator=generator)
    found = sums(inputs, torch.randn(200, 4, generator=generator), torch.ones(200))
    chosen, left = [], set(range(30))
    while len(chosen) < 8:  # one after the other, by solving anew
        errors = {}
        for unit in left:
            part = found.select_inputs(torch.tensor([*chosen, unit]))
            errors[unit] = part.error(part.solve(1e-3, torch.zeros_like(part.cross)))
        chosen.append(min(errors, key=errors.get))
        left.remove(chosen[-1])
    assert forward_selection(found, torch.arange(30).unsqueeze(1), 8, torch.tensor([], dtype=torch.long)) == chosen


def test_the_moments_of_a_mean_follow_from_those_of_its_parts():
    generator = torch.Generator().manual_seed(0)
    rows, weights = torch.randn(50, 5, generator=generator).double(), torch.rand(50, generator=generator).double()
    parts = [torch.randn(50, 3, generator=generator).double() for _ in range(2)]
    targets = [0.3 * parts[0] + 0.7 * parts[1], *parts]
    known, measured = module.gram_matrix(rows, targets, weights, [0.3, 0.7]), module.gram_matrix(rows, targets, weights)
    torch.testing.assert_close(known.cross, measured.cross)
    torch.testing.assert_close(known.target_squares, measured.target_squares)


def test_layers_without_finite_targets_stay_as_they_are():
    module_of = torch.nn.Linear(6, 4)
    before = module_of.weight.clone()
    linear = Linear("layer", Space("out", 4), (Space("in", 6),))
    inputs, target = torch.randn(50, 6), torch.randn(50, 4)
    train, validation = (sums(inputs, values, torch.ones(50)) for values in (target * float("nan"), target))
    assert fit_layer(linear, module_of, train, validation).ridge is None
    torch.testing.assert_close(module_of.weight, before)
