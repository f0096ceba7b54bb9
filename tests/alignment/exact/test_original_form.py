"""A model in the canonical form of another one takes the form of that model, without a change of function."""

import pytest
import torch
from cases import CASES, Case

from transfuse.alignment.exact.canonical_form import canonicalize
from transfuse.alignment.exact.original_form import original_form
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import with_tensors
from transfuse.network.symmetry import symmetric

SIZE = 0.02  # of the change, relative to each tensor


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_function_stays_and_so_does_what_did_not_change(case: Case) -> None:
    model = case.build()
    declared = case.spec(model)
    spec = symmetric(unfused(declared))
    original = dict(split_fused(declared, model.state_dict()))
    canonical = dict(canonicalize(spec, original))
    generator = torch.Generator().manual_seed(1)
    changed = {
        name: values + SIZE * values.abs().mean() * torch.randn(values.shape, generator=generator).to(values)
        for name, values in canonical.items()
    }
    found = original_form(spec, original, changed)
    assert found is not None
    expected = case.logits(with_tensors(model, changed))
    assert (case.logits(with_tensors(model, found)) - expected).abs().max() < 1e-9 * expected.abs().max()
    assert (case.logits(model) - expected).abs().max() > 1e-4 * expected.abs().max()
    same = original_form(spec, original, canonical)
    assert same is not None
    assert all((same[name] - values).abs().max() < 1e-12 for name, values in original.items())
