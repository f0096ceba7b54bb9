"""Filters of mergekit files select tensors by their names in the files, and those that select none have no effect."""

import pytest
from cases import CASES

from transfuse.errors import ConfigError
from transfuse.merging.file_filters import names_in_files, with_file_filters
from transfuse.merging.per_layer import PerLayer
from transfuse.network.layout import unfused
from transfuse.network.model import Network, declaration, unfused_tensors

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize(
    ("model_class", "parts", "selected", "idle"),
    [
        ("MixtralForCausalLM", ("self_attn", "mlp"), "self_attn", ["mlp"]),
        ("MixtralForCausalLM", ("gate", "up_proj"), "block_sparse_moe.gate", ["up_proj"]),
        ("GPTNeoXForCausalLM", ("embed_out", "lm_head"), "embed_out", ["lm_head"]),
        ("GPT2LMHeadModel", ("lm_head", "mlp"), "mlp", ["lm_head"]),  # tied
    ],
)
def test_names_of_files_alone_select(model_class: str, parts: tuple[str, ...], selected: str, idle: list[str]) -> None:
    model = BY_NAME[model_class].build()
    names = names_in_files(model)
    value, found = with_file_filters(dict.fromkeys(parts, 0.0) | {"*": 1.0}, names)
    assert found == idle
    per_layer = PerLayer.of(Network(model, unfused(declaration(model)), unfused_tensors(model)), "weights", [value])
    zeros = {name for name in names if per_layer(name) == [0]}
    assert zeros == {name for name, each in names.items() if any(selected in stored for stored in each.in_files)}


def test_the_first_of_several_entries_counts_and_numbers_stay() -> None:
    names = names_in_files(BY_NAME["MixtralForCausalLM"].build())
    value, _ = with_file_filters({"layers.0.block_sparse_moe.gate": 0.5, "gate": (0.0, 1.0), "*": 1.0}, names)
    assert next(iter(value)) == "layers.0.block_sparse_moe.gate"
    assert with_file_filters((0.0, 1.0), names) == ((0.0, 1.0), [])


def test_parts_that_all_select_no_tensor_leave_the_number_of_all_others() -> None:
    names = names_in_files(BY_NAME["MixtralForCausalLM"].build())
    parts = {"mlp": 0.0, "atention": 0.5}
    assert with_file_filters(parts | {"*": 1.0}, names) == ({"*": 1.0}, ["mlp", "atention"])
    with pytest.raises(ConfigError, match="contains 'mlp' or 'atention'; names are such as"):
        with_file_filters(parts, names)
