"""How well units were matched, seen by what they weigh."""

import pytest
import torch
from cases import CASES

from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.similarity import cosine_similarities
from transfuse.alignment.transform import transform_all
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import declaration
from transfuse.network.space import Group
from transfuse.network.symmetry import fold, restrict, symmetric


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_model_agrees_with_itself_and_not_with_a_shuffled_one(case) -> None:
    model = case.build(1)
    declared = declaration(model)
    spec = restrict(symmetric(unfused(declared)), lambda space: Group.PERMUTATION if space.units > 1 else Group.FIXED)
    tensors = fold(symmetric(unfused(declared)), split_fused(declared, model.state_dict()))
    same = cosine_similarities(spec, tensors, tensors)
    outer = {name for name, space in spec.spaces().items() if space.within is None}
    assert set(same) == outer
    assert all(torch.allclose(values, torch.ones_like(values)) for values in same.values())
    maps = random_alignment(spec, 0)
    moved = cosine_similarities(spec, tensors, transform_all(spec, tensors, {name: maps[name] for name in outer}))
    large = [name for name in outer if spec.spaces()[name].units >= 16]
    assert large
    assert all(float(moved[name].mean()) < 0.7 for name in large)


def test_by_hand() -> None:
    """Two hidden units: one the same, one turned round."""
    case = CASES[0]
    model = case.build(1)
    declared = declaration(model)
    spec = unfused(declared)
    ours = dict(split_fused(declared, model.state_dict()))
    theirs = {name: values.clone() for name, values in ours.items()}
    for name, axes in spec.tensors().items():
        for place, axis in enumerate(axes):
            if "0.hidden" in [space.name for space in axis.spaces()]:
                theirs[name].select(place, 3).neg_()
    found = cosine_similarities(spec, ours, theirs)["0.hidden"]
    assert found[3] == pytest.approx(-1)
    assert torch.allclose(found[:3], torch.ones(3, dtype=found.dtype))
