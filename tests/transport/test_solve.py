"""Solvers against oracles and closed forms."""

import ot
import pytest
import torch

from transfuse.alignment.flow.by_head import by_head
from transfuse.errors import TransfuseError
from transfuse.transport import solve
from transfuse.transport.maps import Matrix, Permutation


def random_cost(source: int, target: int) -> torch.Tensor:
    return torch.rand(source, target, generator=torch.Generator().manual_seed(source), dtype=torch.float64)


def test_exact_on_equal_sizes_is_the_optimal_permutation():
    cost = random_cost(20, 20)
    found = solve.exact(cost)
    assert isinstance(found.map, Permutation)
    assert sorted(found.map.index.tolist()) == list(range(20))
    assert found.cost == pytest.approx(float(ot.emd2([], [], cost.numpy())))
    assert float((found.map.plan() * cost).sum()) / 20 == pytest.approx(found.cost)


@pytest.mark.parametrize("sizes", [(6, 15), (15, 6)])
def test_exact_on_other_sizes_is_the_network_simplex(sizes):
    cost = random_cost(*sizes)
    found = solve.exact(cost)
    assert found.cost == pytest.approx(float(ot.emd2([], [], cost.numpy())))
    assert isinstance(found.map, Matrix)
    assert found.map.forward.shape == sizes


@pytest.mark.parametrize("regularization", [1.0, 0.08, 0.005, 0.0005])
def test_entropic_plan_has_its_marginals_at_any_regularization(regularization):
    """0.0005 underflows in the ordinary domain: POT alone would give a plan of mass zero, and a warning."""
    cost = random_cost(24, 24)
    found = solve.entropic(regularization)(cost)
    assert torch.allclose(found.map.forward.sum(0), torch.ones(24), atol=1e-4)
    assert found.cost >= solve.exact(cost).cost - 1e-6


@pytest.mark.parametrize("support", [None, 3.0])
@pytest.mark.parametrize("units", [20, 30])
def test_one_soft_plan_serves_both_ways_between_as_many_units(units, support):
    solver = solve.entropic_with_support(support) if support else solve.entropic(0.1)
    found = solver(random_cost(20, units)).map
    assert (found.forward is found.backward) == (units == 20)
    torch.testing.assert_close(found.forward.sum(0), torch.ones(units), rtol=1e-4, atol=0)
    torch.testing.assert_close(found.backward.sum(1), torch.ones(20), rtol=1e-4, atol=0)


def test_entropic_tends_to_exact_and_to_uniform():
    cost = random_cost(16, 16)
    assert solve.entropic(0.001)(cost).cost == pytest.approx(solve.exact(cost).cost, rel=0.02)
    assert solve.entropic(100.0)(cost).cost == pytest.approx(solve.uniform(cost).cost, rel=0.01)


@pytest.mark.parametrize(("sizes", "support"), [((40, 40), 1.5), ((40, 40), 20.0), ((30, 60), 4.0), ((60, 30), 8.0)])
def test_a_regularization_is_found_for_a_wanted_support(sizes, support):
    assert solve.entropic_with_support(support)(random_cost(*sizes)).map.support() == pytest.approx(support, rel=0.02)


def test_no_plan_is_wider_than_the_uniform_one():
    assert solve.entropic_with_support(50.0)(random_cost(8, 6)).map.support() == pytest.approx(6)


def test_units_that_all_look_the_same_are_spread_evenly():
    assert solve.entropic_with_support(3.0)(torch.ones(8, 8)).map.support() == pytest.approx(8)


def test_centered_procrustes_recovers_a_rotation_that_fixes_the_ones():
    x = torch.randn(40, 8, dtype=torch.float64)
    x = x - x.mean(1, keepdim=True)
    basis = torch.linalg.qr(torch.cat([torch.ones(8, 1), torch.randn(8, 7)], 1).double())[0][:, 1:]
    turn = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))[0]
    truth = basis @ turn @ basis.T + torch.full((8, 8), 1 / 8, dtype=torch.float64)
    found = solve.centered_procrustes(x.T @ (x @ truth)).forward
    assert torch.allclose(found, truth, atol=1e-9)
    assert torch.allclose(found.sum(0), torch.ones(8, dtype=torch.float64))


def test_centered_procrustes_of_nothing_is_still_centered():
    found = solve.centered_procrustes(torch.zeros(5, 5, dtype=torch.float64)).forward
    assert torch.allclose(found.sum(0), torch.ones(5, dtype=torch.float64))
    assert torch.allclose(found @ found.T, torch.eye(5, dtype=torch.float64))


def test_nested_plans_keep_heads_apart_and_find_a_hidden_order():
    """Heads and channels of a copy shuffled, one cost per pair of channels: found back, whole heads at a time."""
    generator = torch.Generator().manual_seed(0)
    units = torch.randn(3, 4, 20, generator=generator, dtype=torch.float64)
    heads, channels = torch.tensor([2, 0, 1]), torch.tensor([[1, 0, 3, 2], [3, 2, 1, 0], [0, 2, 1, 3]])
    moved = torch.stack([units[h][order] for h, order in zip(heads, channels, strict=True)])
    cost = torch.cdist(units.flatten(0, 1), moved.flatten(0, 1))
    found = by_head(solve.exact, 3, 3)(cost)
    assert torch.allclose(found.map.push(units.flatten(0, 1).T), moved.flatten(0, 1).T)
    assert found.cost == pytest.approx(0, abs=1e-6)
    soft = by_head(solve.entropic(1.0), 3, 3)(cost).map.plan().unflatten(1, (3, 4)).unflatten(0, (3, 4))
    mass = soft.sum((1, 3))
    assert torch.equal(mass > 1e-9, torch.nn.functional.one_hot(heads, 3).T.bool())
    assert float(soft.max()) < 0.999


def test_nested_plans_between_different_numbers_of_heads():
    cost = random_cost(12, 8)
    found = by_head(solve.exact, 3, 2)(cost)
    assert found.map.forward.shape == (12, 8)
    assert torch.allclose(found.map.forward.sum(0), torch.ones(8, dtype=torch.float64))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("solver", [solve.exact, solve.emd, solve.entropic(0.1), solve.entropic_with_support(2.0)])
def test_costs_that_are_not_finite_are_refused(solver: solve.Solver, value: float) -> None:
    cost = random_cost(6, 6)
    cost[0, 0] = value
    with pytest.raises(TransfuseError, match="not finite; look for weights that overflowed"):
        solver(cost)
