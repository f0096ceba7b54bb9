"""Norms whose gains have zeros or tiny numbers, folded into what reads them."""

import pytest
import torch
from cases import CASES

from transfuse.errors import SpecError
from transfuse.network.layout import unfused
from transfuse.network.model import network
from transfuse.network.symmetry import fold, symmetric

by_name = {case.name: case for case in CASES}


def folded(name, norm, gain=0.0, **changes):
    """A model with a zero or another number in a gain, and its folded tensors."""
    model = by_name[name].build(1, **changes)
    with torch.no_grad():
        model.get_submodule(norm).weight[0] = gain
    spec = symmetric(unfused(by_name[name].spec(model)))
    return model, fold(spec, network(model, torch.device("cpu")).tensors)


def test_a_map_that_reads_a_norm_twice_takes_both_shifts():
    """The head of DINOv2 reads the class token and the mean of the patches, and has one bias."""
    case = by_name["Dinov2ForImageClassification"]
    model, tensors = folded(case.name, "dinov2.layernorm")
    reference = case.logits(model)
    torch.testing.assert_close(case.logits(case.build(), tensors), reference, atol=1e-9, rtol=1e-9)
    assert not tensors["dinov2.layernorm.bias"].any()


@pytest.mark.parametrize("gain", [0.0, 1e-5, -1e-5])
def test_the_reader_without_a_bias_is_named(gain):
    name = "BeitForImageClassification-use_relative_position_bias"
    with pytest.raises(SpecError, match=r"and beit\.layers\.0\.attention\.k_proj has no bias to fold that into"):
        dict(folded(name, "beit.layers.0.layernorm_before", gain)[1])
