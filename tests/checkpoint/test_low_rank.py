"""A low-rank difference is the best one of its rank, in the entries or in the outputs."""

import pytest
import torch
from torch import Tensor

from transfuse.checkpoint.adapters import low_rank
from transfuse.checkpoint.adapters.low_rank import LowRank, low_rank_difference


def matrices(rows: int = 9, columns: int = 7) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    base = torch.randn(rows, columns)
    return base, base + torch.randn(rows, columns)


def moments_of(count: int, columns: int = 7) -> Tensor:
    """Second moments of inputs of very different sizes; fewer samples than columns make them singular."""
    torch.manual_seed(1)
    inputs = torch.randn(count, columns) * torch.logspace(0, -2, columns)
    return inputs.T @ inputs / count


def output_error(found: LowRank, base: Tensor, changed: Tensor, moments: Tensor) -> float:
    error = changed.double() - base.double() - found.up @ found.down
    return float((error @ moments.double() * error).sum())


@pytest.mark.parametrize("moments", [None, moments_of(40), moments_of(3), torch.zeros(7, 7)])
def test_full_rank_is_the_difference(moments: Tensor | None) -> None:
    base, changed = matrices()
    found = low_rank_difference(base, changed, 100, moments)
    assert (found.rank, found.up.shape, found.down.shape) == (7, (9, 7), (7, 7))
    torch.testing.assert_close(base.double() + found.up @ found.down, changed.double())
    assert found.residual < 1e-12 * found.square


def test_no_matrix_of_this_rank_is_nearer() -> None:
    base, changed = matrices()
    singular = torch.linalg.svdvals(changed.double() - base.double()).square()
    found = low_rank_difference(base, changed, 3)
    assert found.rank == 3
    assert found.square == pytest.approx(float(singular.sum()))
    assert found.residual == pytest.approx(float(singular[3:].sum()))


def test_in_the_metric_of_the_inputs_no_outputs_are_nearer() -> None:
    base, changed = matrices()
    moments = moments_of(40)
    plain, found = (low_rank_difference(base, changed, 2, metric) for metric in (None, moments))
    values, vectors = torch.linalg.eigh(moments.double())
    root = vectors * values.clamp_min(0).sqrt()
    least = float(torch.linalg.svdvals((changed.double() - base.double()) @ root)[2:].square().sum())
    assert output_error(found, base, changed, moments) == pytest.approx(least, rel=0.02)
    assert output_error(plain, base, changed, moments) > 1.5 * least
    assert found.residual > plain.residual


@pytest.mark.parametrize("moments", [None, moments_of(40)])
def test_the_rank_is_that_of_the_difference(moments: Tensor | None) -> None:
    base, _ = matrices()
    changed = base + torch.outer(torch.arange(9.0), torch.arange(7.0)) + torch.outer(torch.ones(9), torch.ones(7))
    assert low_rank_difference(base, changed, 5, moments).rank == 2
    assert low_rank_difference(base, base.clone(), 5, moments).rank == 0


def test_large_matrices_are_decomposed_almost_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    base, changed = matrices(120, 100)
    exact = low_rank_difference(base, changed, 4)
    monkeypatch.setattr(low_rank, "LARGE", 50)
    monkeypatch.setattr(low_rank, "OVERSAMPLING", 12)
    state = torch.random.get_rng_state()
    found = low_rank_difference(base, changed, 4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found.rank == 4
    assert exact.residual < found.residual < 1.005 * exact.residual


def test_what_makes_no_sense_is_refused() -> None:
    base, changed = matrices()
    with pytest.raises(ValueError, match="rank 0"):
        low_rank_difference(base, changed, 0)
    with pytest.raises(ValueError, match="shapes"):
        low_rank_difference(base, changed[:3], 1)
