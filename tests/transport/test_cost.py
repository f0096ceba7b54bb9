"""Costs from moments equal costs from samples."""

import pytest
import torch

from transfuse.transport import cost

X = torch.randn(50, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 2
Y = torch.randn(50, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def seen(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(0)


@pytest.mark.parametrize(
    ("transform", "by_hand"),
    [
        (cost.raw, lambda x: x),
        (cost.center, seen),
        (cost.standardize, lambda x: seen(x) / x.std(0)),
        (cost.normalize, lambda x: x / x.norm(dim=0)),
    ],
)
def test_euclidean_from_moments(transform, by_hand):
    found = cost.euclidean(transform(cost.moments(X, Y)))
    assert torch.allclose(found, torch.cdist(by_hand(X).T, by_hand(Y).T), atol=1e-9)


def test_batches_add_up():
    whole, parts = cost.moments(X, Y), cost.moments(X[:20], Y[:20]) + cost.moments(X[20:], Y[20:])
    assert whole.count == parts.count
    assert torch.allclose(cost.euclidean(cost.standardize(whole)), cost.euclidean(cost.standardize(parts)))


def test_single_precision_loses_nothing_to_a_large_mean():
    """Deviations of a hundredth beside a mean of ten: of their plain products in float32, little would be right."""
    x, y = ((values * 1e-2 + 10).float() for values in (X, Y))
    batches = cost.moments(x[20:], y[20:], cost.moments(x[:20], y[:20]))
    exact = cost.moments(x.double(), y.double())
    for transform in (cost.raw, cost.center, cost.standardize):
        found, wanted = transform(batches), transform(exact)
        for name in ("sum_x", "sum_y", "square_x", "square_y", "cross"):
            torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-4)


def test_nothing_seen_adds_nothing():
    whole = cost.moments(X, Y)
    again = cost.moments(X[:0], Y[:0], cost.moments(X, Y))
    assert again.count == whole.count
    assert torch.equal(again.cross, whole.cross)


def test_constant_units_become_zero_not_infinite():
    constant = torch.cat([X[:, :1] * 0 + 3, X[:, 1:]], 1)
    found = cost.standardize(cost.moments(constant, Y))
    assert torch.isfinite(found.cross).all()
    assert float(found.cross[0].abs().max()) == 0


def test_by_maximum():
    found = cost.by_maximum(cost.euclidean(cost.moments(X, Y)))
    assert float(found.max()) == pytest.approx(1)
