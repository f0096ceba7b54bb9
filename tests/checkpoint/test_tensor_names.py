"""The names of a tensor are those that a checkpoint of its model has."""

from typing import Any

import pytest
import torch
from cases import CASES
from transformers.core_model_loading import revert_weight_conversion

from transfuse.checkpoint.writing.tensor_names import tensor_names
from transfuse.network.layout import join_fused, split_fused
from transfuse.network.model import declaration

STEP = 10  # between the values of two tensors; gains are stored with an offset of 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_names_in_files(case: Any) -> None:
    """Every tensor of a file holds values of the unfused tensors that have its name, and of no others."""
    model = case.build()
    spec = declaration(model)
    names = tensor_names(model)
    unfused = split_fused(spec, model.state_dict())
    numbered = {name: torch.full_like(unfused[name], STEP * number) for number, name in enumerate(unfused)}
    for name, values in revert_weight_conversion(model, dict(join_fused(spec, numbered))).items():
        numbers = {round(number / STEP) for number in values.unique().tolist()}
        held = {own for number, own in enumerate(unfused) if number in numbers}
        assert held <= {own for own in names if name in names[own].in_files}, name


def test_parts_of_experts_have_names_of_their_own() -> None:
    names = tensor_names(next(case for case in CASES if case.name == "MixtralForCausalLM").build())
    gate, up = (names[f"model.layers.0.mlp.experts.gate_up_proj[{part}]"] for part in (0, 1))
    experts = "model.layers.0.block_sparse_moe.experts"
    assert gate.in_files == tuple(f"{experts}.{number}.w1.weight" for number in range(3))
    assert up.in_files == tuple(f"{experts}.{number}.w3.weight" for number in range(3))
    assert gate.in_model[1] == up.in_model[1] == "model.layers.0.mlp.experts.gate_up_proj"
