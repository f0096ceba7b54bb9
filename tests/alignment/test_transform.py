"""Carrying along every kind of axis, against maps written out by hand."""

import torch

from transfuse.alignment.transform import transform_tensor
from transfuse.network.space import Group, Space
from transfuse.transport.maps import Permutation, invertible

HEAD = Space("head", 2)
Q, K, V = (Space(name, 3, within=HEAD) for name in "qkv")
X = Space("x", 4)
FIXED = Space("class", 5, Group.FIXED)


def swapped() -> dict:
    generator = torch.Generator().manual_seed(0)
    inner = {
        name: Permutation(torch.stack([torch.randperm(3, generator=generator) for _ in range(2)])) for name in "qkv"
    }
    return {"head": Permutation(torch.tensor([1, 0])), **inner}


def test_pairs_of_writer_and_reader_keep_their_product():
    """(W_out pulled) (W_in pushed) = W_out W_in, for any invertible map."""
    first, second = torch.randn(4, 5, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    maps = {"x": invertible(torch.randn(4, 4, dtype=torch.float64))}
    carried = transform_tensor(second, (FIXED, ~X), maps) @ transform_tensor(first, (X, ~FIXED), maps)
    assert torch.allclose(carried, second @ first)


def test_double_dual_is_the_axis():
    values = torch.randn(4, dtype=torch.float64)
    maps = {"x": invertible(torch.randn(4, 4, dtype=torch.float64))}
    assert torch.equal(transform_tensor(values, (~~X,), maps), transform_tensor(values, (X,), maps))


def test_nested_axis_moves_heads_then_channels_of_the_target_head():
    maps = swapped()
    values = torch.arange(6.0)
    heads = values.reshape(2, 3)[[1, 0]]
    expected = torch.stack([heads[g][maps["q"].index[g]] for g in range(2)]).flatten()
    assert torch.equal(transform_tensor(values, (HEAD * Q,), maps), expected)


def test_unmapped_and_fixed_axes_stay():
    values = torch.randn(5, 4)
    assert torch.equal(transform_tensor(values, (FIXED, ~X), {}), values)


def test_axes_print_as_they_are_written():
    assert str(HEAD * (Q + K)) == "head[2] * (q[3] + k[3])"
    assert str(HEAD * Q + HEAD * K) == "head[2] * q[3] + head[2] * k[3]"
    assert (HEAD * (Q + K)).size == (HEAD * Q + HEAD * K).size == 12
