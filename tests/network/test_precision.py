"""The precision of products during training."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from transfuse.network import precision
from transfuse.network.precision import mixed_precision

CPU = torch.device("cpu")


def heads(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("native", [True, False])
def test_products_are_in_bfloat16_only_where_it_is_native(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: native)
    matrix = torch.ones(3, 3)
    with mixed_precision(CPU):
        assert (matrix @ matrix).dtype is (torch.bfloat16 if native else torch.float32)
    assert (matrix @ matrix).dtype is torch.float32


def test_attention_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    query, key, value = (heads(seed).bfloat16() for seed in range(3))
    mask = torch.zeros(5, 5)
    expected = scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)
    with mixed_precision(CPU):
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask)
        exact = scaled_dot_product_attention(*(heads(seed).double() for seed in range(3)))
    assert torch.equal(found, expected)
    assert exact.dtype is torch.float64
