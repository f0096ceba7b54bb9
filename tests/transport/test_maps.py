"""Maps: push and pull, exactness, entropy and support."""

import math

import pytest
import torch

from transfuse.transport.maps import Matrix, Permutation, from_plan, invertible, rotation


def test_permutation_gathers():
    index = torch.tensor([2, 0, 1])
    values = torch.tensor([[10.0, 11.0, 12.0]])
    assert Permutation(index).push(values).tolist() == [[12.0, 10.0, 11.0]]
    dense = rotation(Permutation(index).plan())
    assert torch.equal(dense.push(values), Permutation(index).push(values))


def test_permutation_within_parents():
    index = torch.tensor([[1, 0], [0, 1]])
    values = torch.arange(8.0).reshape(2, 2, 2)  # parent, rest, unit
    assert Permutation(index).push(values).tolist() == [[[1, 0], [3, 2]], [[4, 5], [6, 7]]]


def test_hard_maps_are_exact_with_support_one():
    chosen = Permutation(torch.randperm(9))
    assert (chosen.exactness(), chosen.entropy()) == (0.0, 0.0)
    assert chosen.support() == pytest.approx(1)


def test_invertible_pulls_by_the_inverse_transpose():
    matrix = torch.randn(4, 6, 6, dtype=torch.float64)
    chosen = invertible(matrix)
    x, y = torch.randn(2, 4, 3, 6, dtype=torch.float64)
    before, after = (x * y).sum(-1), (chosen.push(x) * chosen.pull(y)).sum(-1)
    assert torch.allclose(before, after)
    assert chosen.exactness() < 1e-9


def test_a_uniform_plan_keeps_only_the_mean():
    chosen = from_plan(torch.full((5, 5), 1 / 25, dtype=torch.float64))
    values = torch.randn(3, 5, dtype=torch.float64)
    assert torch.allclose(chosen.push(values), values.mean(-1, keepdim=True).expand(3, 5))
    assert chosen.entropy() == pytest.approx(math.log(5))
    assert chosen.support() == pytest.approx(5)
    assert chosen.exactness() == pytest.approx(math.sqrt(4 / 5))


def test_plans_between_different_sizes_keep_scales():
    """Pushed columns and pulled rows are averages whatever the sizes: no factor of n0 / n1."""
    plan = torch.rand(4, 6, dtype=torch.float64)
    chosen = from_plan(plan)
    assert torch.allclose(chosen.push(torch.ones(1, 4, dtype=torch.float64)), torch.ones(1, 6, dtype=torch.float64))
    assert torch.allclose(chosen.backward.sum(1), torch.ones(4, dtype=torch.float64))


def test_shapes_are_known_without_a_plan(monkeypatch):
    monkeypatch.setattr(Matrix, "plan", None)
    chosen = Matrix(torch.eye(4)[:, :3].expand(2, 4, 3), torch.eye(4)[:, :3].expand(2, 4, 3))
    assert (chosen.units, chosen.parent_axes) == ((4, 3), 1)


def test_exactness_tells_a_bad_pair_of_matrices():
    assert Matrix(torch.eye(3), 2 * torch.eye(3)).exactness() == pytest.approx(1)
