"""Parts of names that weights and densities are given for are those of a checkpoint's files, and none is ignored."""

import re

import pytest
from cases import CASES

import transfuse
from transfuse.errors import ConfigError
from transfuse.merging.per_layer import PerLayer, depths
from transfuse.network.layout import unfused
from transfuse.network.model import Network, declaration, unfused_tensors

BY_NAME = {case.name: case for case in CASES}


def numbers(model_class: str, part: str) -> dict[str, float]:
    """The numbers of all tensors, 0 for those that the part selects and 1 for the others."""
    model = BY_NAME[model_class].build()
    network = Network(model, unfused(declaration(model)), unfused_tensors(model))
    per_layer = PerLayer.of(network, "weights", [{part: 0, "*": 1}])
    return {name: per_layer(name)[0] for name in network.tensors}


@pytest.mark.parametrize(
    ("model_class", "part", "selected"),
    [
        ("MixtralForCausalLM", "block_sparse_moe", "mlp"),
        ("MixtralForCausalLM", ".w3.", r"gate_up_proj\[1\]"),
        ("ViTForImageClassification", "attention.query", "q_proj"),
        ("ViTForImageClassification", "encoder", "layers"),
        ("ViTForImageClassification", "intermediate", "fc1"),
        ("GPT2LMHeadModel", "c_attn.weight", r"c_attn\[\d\].weight"),
        ("GPT2LMHeadModel", "c_attn[1]", r"c_attn\[1\]"),
        ("GPTNeoXForCausalLM", "embed_out", "lm_head"),
        ("GPTNeoXForCausalLM", "query_key_value.bias", r"query_key_value\[\d\].bias"),
    ],
)
def test_names_of_files_and_of_fused_layers_select(model_class: str, part: str, selected: str) -> None:
    found = numbers(model_class, part)
    zeros = {name for name, number in found.items() if number == 0}
    assert zeros == {name for name in found if re.search(selected, name)} != set()


@pytest.mark.parametrize(
    ("model_class", "part", "words"),
    [
        ("MixtralForCausalLM", "mpl", "weights, item 1: no tensor's name contains 'mpl'; names are such as model.emb"),
        ("GPT2LMHeadModel", "lm_head", "no tensor's name contains 'lm_head'"),
        (
            "MixtralForCausalLM",
            "experts.0.",
            "not in model.layers.0.block_sparse_moe.experts.1.w1.weight, and all experts",
        ),
    ],
)
def test_a_part_that_selects_nothing_or_one_expert_is_refused(model_class: str, part: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        numbers(model_class, part)
    assert words in str(caught.value)


def test_names_are_checked_before_units_are_matched() -> None:
    models = [BY_NAME["ViTForImageClassification"].build(seed).float() for seed in (0, 1)]
    with pytest.raises(ConfigError, match=r"^weights, item 2: no tensor's name contains 'atention'"):
        transfuse.match(models, weights=(1, {"atention": 0, "*": 1}))


@pytest.mark.parametrize(
    ("model_class", "first"),
    [
        ("CLIPModel", ("text_model.embeddings", "vision_model.embeddings", "vision_model.pre_layrnorm")),
        ("SiglipModel", ("text_model.embeddings", "vision_model.embeddings")),
        ("BartForConditionalGeneration", ("model.shared", "embed_", "layernorm_embedding")),
    ],
)
def test_what_comes_before_each_list_of_blocks_is_as_deep_as_its_first_block(
    model_class: str, first: tuple[str, ...]
) -> None:
    found = depths(unfused(declaration(BY_NAME[model_class].build())).tensors())
    outside = {name: depth for name, depth in found.items() if not re.search(r"\.\d+\.", name)}
    assert {name for name, depth in outside.items() if depth == 0} == {
        name for name in outside if any(part in name for part in first)
    }
    assert set(outside.values()) == {0.0, 1.0}
