"""Entropic plans against POT in float64, over regularizations, sizes, kinds of costs and domains."""

import ot
import pytest
import torch

from transfuse.errors import TransfuseError
from transfuse.transport import assignment as assignments
from transfuse.transport import solve
from transfuse.transport.sinkhorn import DOMAINS, sinkhorn


def features(units: int, seed: int, heavy: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(units, 40, generator=generator)
    return found * torch.randn(units, 1, generator=generator).exp() if heavy else found


def cost_of(source: int, target: int, heavy: bool = False) -> torch.Tensor:
    return torch.cdist(features(source, 1, heavy), features(target, 2, heavy))


def total(plan: torch.Tensor, cost: torch.Tensor) -> float:
    return float((plan.double() * cost.double()).sum())


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("sizes", [(60, 60), (60, 90), (90, 40)])
@pytest.mark.parametrize("regularization", [0.5, 0.1, 0.02])
def test_as_pot_in_double_precision(regularization, sizes, heavy):
    cost = cost_of(*sizes, heavy)
    near = regularization * float(cost.mean())
    oracle = torch.from_numpy(
        ot.sinkhorn([], [], cost.double().numpy(), near, method="sinkhorn_log", numItermax=100_000, stopThr=1e-12)
    )
    for domain in (*DOMAINS, "auto"):
        found = sinkhorn(cost, near, domain=domain)
        assert found.converged, domain
        assert float((found.plan.double().sum(0) * sizes[1] - 1).abs().mean()) < 1e-5
        assert float((found.plan.double().sum(1) * sizes[0] - 1).abs().mean()) < 1e-5
        assert total(found.plan, cost) == pytest.approx(total(oracle, cost), rel=1e-4)
        assert float((found.plan.double() - oracle).abs().sum()) < 1e-3


@pytest.mark.parametrize("regularization", [1e-2, 1e-3, 1e-4])
def test_a_small_regularization_comes_near_the_optimum_and_underflows_nowhere(regularization):
    cost = cost_of(120, 120, heavy=True)
    found = sinkhorn(cost, regularization * float(cost.mean()))
    best = solve.exact(cost).cost
    assert found.converged
    assert float(found.plan.sum()) == pytest.approx(1, abs=1e-5)
    assert best - 1e-3 <= total(found.plan, cost) <= best * (1 + 20 * regularization)


def test_potentials_are_the_plan():
    cost = cost_of(50, 70)
    found = sinkhorn(cost, 1.0, domain="float64")
    plan = ((found.source.unsqueeze(1) + found.target - cost.double()) / 1.0).exp() / cost.numel()
    torch.testing.assert_close(plan, found.plan, rtol=1e-6, atol=1e-12)


def test_a_warm_start_takes_fewer_iterations():
    cost = cost_of(80, 80, heavy=True)
    first = sinkhorn(cost, 0.5)
    assert sinkhorn(cost, 0.5, start=first).iterations < first.iterations
    near = sinkhorn(cost, 0.4, start=first)
    torch.testing.assert_close(near.plan, sinkhorn(cost, 0.4).plan, rtol=0, atol=1e-6)


def test_what_did_not_converge_says_so():
    cost = cost_of(80, 80, heavy=True)
    found = sinkhorn(cost, 1e-3, max_iterations=2)
    assert not found.converged
    assert found.error > 1e-4


def test_a_plan_that_did_not_converge_is_refused(monkeypatch):
    monkeypatch.setattr(solve, "sinkhorn", lambda cost, near, *_: sinkhorn(cost, near, max_iterations=2))
    with pytest.raises(TransfuseError, match=r"did not converge at regularization .*; raise --flow.regularization, or"):
        solve.entropic(1e-3)(cost_of(80, 80, heavy=True))
    with pytest.raises(TransfuseError, match=r"did not converge .*; choose another --flow.support, or choose"):
        solve.entropic_with_support(2.0)(cost_of(80, 80, heavy=True))


@pytest.mark.parametrize("units", [1, 2, 33, 300])
@pytest.mark.parametrize("large", [1, 10**9])
def test_assignments_are_optimal_with_and_without_potentials(units, large, monkeypatch):
    monkeypatch.setattr(assignments, "POTENTIALS_FROM", large)
    scores = torch.stack([-cost_of(units, units, heavy=True), features(units, 3) @ features(units, 4).T])
    for score, index in zip(scores, assignments.assignments(scores), strict=True):
        assert sorted(index.tolist()) == list(range(units))
        best = -float(ot.emd2([], [], (-score).double().numpy())) * units
        assert float(score.double()[index, torch.arange(units)].sum()) == pytest.approx(best, rel=1e-6)


def test_without_lapx_scipy_does_it(monkeypatch):
    score = -cost_of(64, 64)
    fast = assignments.assignment(score)
    monkeypatch.setattr(assignments, "lap", None)
    assert torch.equal(assignments.assignment(score), fast)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_numbers_are_refused(value):
    score = torch.rand(4, 4)
    score[1, 2] = value
    with pytest.raises(TransfuseError, match="not finite"):
        assignments.assignment(score)
