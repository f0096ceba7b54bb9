"""Units that tie keep their places; costs of any size give the same plan."""

import pytest
import torch

from transfuse.transport import solve
from transfuse.transport.assignment import assignment
from transfuse.transport.maps import Matrix, Permutation
from transfuse.transport.sinkhorn import sinkhorn

SOLVERS = {"exact": solve.exact, "entropic": solve.identity_on_ties(solve.entropic(0.08))}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
DIAGONAL = [  # a nearly diagonal plan, as heads that find themselves give it: potentials hardly matter
    [0.0711, 0.7342, 0.8350, 0.9241, 0.7726, 0.8733, 0.9256, 0.9746],
    [0.7379, 0.1246, 0.8298, 0.9134, 0.8964, 0.9403, 0.9298, 0.8231],
    [0.8315, 0.8286, 0.1461, 0.8260, 0.8964, 0.8684, 0.7707, 0.8121],
    [0.9151, 0.9112, 0.8265, 0.1363, 0.6174, 0.7087, 0.5218, 0.7922],
    [0.7768, 0.8854, 0.8888, 0.6375, 0.1749, 0.7610, 0.7416, 0.8595],
    [0.8681, 0.9383, 0.8701, 0.7083, 0.7567, 0.1337, 0.7392, 0.7692],
    [0.9277, 0.9395, 0.7674, 0.4854, 0.7286, 0.7334, 0.0396, 0.8611],
    [0.9620, 0.8226, 0.8124, 0.7922, 0.8659, 0.7694, 0.8553, 0.1377],
]


def random_cost(rows: int, columns: int) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def shares(found: solve.Match) -> torch.Tensor:
    return found.map.plan().double()


@solvers
@pytest.mark.parametrize("cost", [torch.zeros(9, 9), torch.full((9, 9), 0.7), random_cost(9, 1) + random_cost(1, 9)])
def test_where_all_costs_tie_the_plan_is_the_identity(solver: solve.Solver, cost: torch.Tensor) -> None:
    assert torch.allclose(shares(solver(cost)), torch.eye(9, dtype=torch.float64), atol=1e-6)


@solvers
def test_units_that_tie_keep_their_places_and_the_others_find_theirs(solver: solve.Solver) -> None:
    """Units 3 to 6 look alike on both sides; 0, 1 and 2 have changed places."""
    features = random_cost(7, 20)
    features[4:] = features[3]
    cost = torch.cdist(features[[1, 2, 0, 3, 4, 5, 6]], features)
    found = shares(solver(cost / cost.max()))
    assert found[3:, 3:].diagonal().min() > 0.9
    assert found[:3].argmax(1).tolist() == [1, 2, 0]


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_settling_changes_neither_cost_nor_marginals(factor: float) -> None:
    features = random_cost(12, 5)
    features[5:9] = features[5]
    cost = factor * torch.cdist(features, random_cost(12, 5).flip(0))
    cost[:, 5:9] = cost[:, 5:6]
    solver = solve.entropic(0.2 * factor)
    plain, found = solver(cost), solve.identity_on_ties(solver)(cost)
    assert isinstance(plain.map, Matrix)
    assert isinstance(found.map, Matrix)
    before, after = plain.map.forward, found.map.forward
    assert (before - after).abs().max() > 1e-3
    assert torch.allclose(before.sum(0), after.sum(0))
    assert torch.allclose(before.sum(1), after.sum(1))
    assert (after - torch.diag(after.diagonal()))[5:9, 5:9].abs().max() < 1e-6
    assert float((after * cost).sum()) == pytest.approx(float((before * cost).sum()), rel=1e-5)
    assert (after >= 0).all()


def test_an_assignment_without_ties_is_left_alone() -> None:
    cost = random_cost(40, 40)
    index = assignment(-cost)
    assert isinstance(solve.exact(cost).map, Permutation)
    assert index.tolist() != list(range(40))
    assert float(cost[index, torch.arange(40)].sum()) < float(cost.diagonal().sum())


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e-12, 1e31, 1e300])
def test_costs_of_any_size_give_the_same_plans(factor: float) -> None:
    square, wide = random_cost(16, 16), random_cost(10, 16)
    assert torch.equal(shares(solve.exact(square)), shares(solve.exact(square * factor)))
    for solver, scaled, cost in (
        (solve.emd, solve.emd, wide),
        (solve.entropic(0.08), solve.entropic(0.08 * factor), square),
        (solve.entropic_with_support(4.0), solve.entropic_with_support(4.0), square),
    ):
        assert torch.allclose(shares(solver(cost)), shares(scaled(cost * factor)), atol=1e-4)


def test_a_nearly_diagonal_plan_converges() -> None:
    """Scaling rows and columns in turn would take tens of thousands of iterations here."""
    found = sinkhorn(torch.tensor(DIAGONAL, dtype=torch.float64), 0.06)
    assert found.converged
    assert found.iterations < 300
    assert torch.allclose(found.plan.sum(0), torch.full((8,), 1 / 8, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize(("units", "dtype"), [(50, torch.float64), (2500, torch.float32)])
def test_a_unit_far_larger_than_the_others_makes_no_ties_of_these(units: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(64, units, generator=generator, dtype=dtype)
    samples[:, 0] *= 1e4
    order = torch.randperm(units, generator=generator)
    assert torch.equal(assignment(samples.T @ samples[:, order]), order)
