"""Sizes of a smaller model: those that are asked for, what follows from them, and those that are impossible."""

import re
from typing import Any

import pytest
from cases import CASES
from transformers import (
    DebertaV2Config,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    Qwen2Config,
    ViTConfig,
    ViTForImageClassification,
)

from transfuse.base.progress import silent
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.errors import ConfigError, SpecError
from transfuse.network.parameter_count import parameter_count
from transfuse.network.sizes import Sizes, resized
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.choose_sizes import tried_candidates
from transfuse.shrinking.possible import possible_sizes
from transfuse.shrinking.ratio import candidates

VIT = ViTConfig(hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128, image_size=16)
GPT2 = GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=90, n_positions=16)
LLAMA = LlamaConfig(
    hidden_size=64, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=4, head_dim=8,
    intermediate_size=96, vocab_size=90,
)  # fmt: skip
BEIT = "BeitForImageClassification-use_relative_position_bias"
HEAD_OF_10 = {"hidden_size": 24, "num_attention_heads": 4, "head_dim": 10, "num_hidden_layers": 2}
by_name = {case.name: case for case in CASES}


def refuses(config: Any, wanted: Sizes, *words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        target_sizes(config, wanted, "M")
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


def test_heads_keep_their_size_and_follow_the_width() -> None:
    assert target_sizes(VIT, Sizes(hidden_size=48)) == Sizes(48, 4, 128, 3, None, 16)
    assert target_sizes(GPT2, Sizes(hidden_size=32, layers=2)) == Sizes(32, 2, 256, 2, None, 16)  # n_inner's default
    assert target_sizes(LLAMA, Sizes(hidden_size=40)) == Sizes(40, 3, 96, 8, 4, 8)
    assert target_sizes(LLAMA, Sizes(hidden_size=48, heads=6)) == Sizes(48, 3, 96, 6, 3, 8)
    assert target_sizes(LLAMA, Sizes(heads=4, kv_heads=2)) == Sizes(64, 3, 96, 4, 2, 8)


def test_a_smaller_head_size_makes_a_smaller_width_unless_it_has_a_field() -> None:
    assert target_sizes(VIT, Sizes(head_size=8)) == Sizes(32, 4, 128, 4, None, 8)
    assert target_sizes(VIT, Sizes(head_size=8, hidden_size=16)) == Sizes(16, 4, 128, 2, None, 8)
    assert target_sizes(VIT, Sizes(head_size=8, heads=3)) == Sizes(24, 4, 128, 3, None, 8)
    assert target_sizes(LLAMA, Sizes(head_size=4)) == Sizes(64, 3, 96, 8, 4, 4)


@pytest.mark.parametrize(
    ("config", "wanted", "words"),
    [
        (VIT, Sizes(hidden_size=50), ["hidden_size", "50", "multiple of 16", "48 or 64"]),
        (VIT, Sizes(heads=2), ["heads", "hidden_size of 32, not 64", "hidden_size 32"]),
        (VIT, Sizes(hidden_size=32, heads=4), ["heads", "hidden_size 64 or heads 2, or head_size 8"]),
        (VIT, Sizes(hidden_size=64, head_size=8), ["head_size: with 8", "8 heads, and M has 4", "hidden_size 32"]),
        (VIT, Sizes(hidden_size=20, head_size=8), ["20 is not a multiple of 8", "16 or 24"]),
        (VIT, Sizes(layers=5), ["layers", "5 is more than the 4 of M"]),
        (VIT, Sizes(intermediate_size=200), ["intermediate_size", "128"]),
        (VIT, Sizes(layers=4), ["M has these sizes already"]),
        (VIT, Sizes(kv_heads=1), ["kv_heads", "no such size"]),
        (LLAMA, Sizes(heads=3), ["heads", "2 query heads share one", "not a multiple of 2"]),
        (LLAMA, Sizes(kv_heads=2), ["kv_heads", "serves 2 query heads", "give heads 4"]),
        (
            LLAMA,
            Sizes(heads=4, kv_heads=4),
            ["kv_heads", "4 of them cannot serve 4, and one query head alone", "give 2"],
        ),
        (LLAMA, Sizes(heads=6), ["heads", "LlamaConfig", "6 heads with a hidden_size of 64", "heads 1, 2, 4, 8, or"]),
    ],
    ids=str,
)
def test_what_is_impossible_is_refused(config: Any, wanted: Sizes, words: list[str]) -> None:
    refuses(config, wanted, *words)


@pytest.mark.parametrize("name", ["T5ForConditionalGeneration", "CLIPModel", "AlbertForMaskedLM", "MixtralForCausalLM"])
def test_what_is_not_supported_is_refused(name: str) -> None:
    """Two stacks, a block that runs several times, experts."""
    model = by_name[name].build()
    with pytest.raises((SpecError, ConfigError)) as caught:
        possible_sizes(model, model, make(ShrinkOptions, {"layers": 1, "intermediate_size": 9}))
    assert "\n" not in str(caught.value)


def test_blocks_that_know_their_number_stay() -> None:
    model = by_name["GPT2LMHeadModel"].build(scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(SpecError, match=r"scale_attn_by_inverse_layer_idx is true.*; leave out layers"):
        possible_sizes(model, model, make(ShrinkOptions, {"layers": 1}))
    for series in possible_sizes(model, model, make(ShrinkOptions, {"ratio": 0.75})):
        assert {sizes.layers for sizes in series} == {2}


def test_the_smallest_ratio_is_possible() -> None:
    with pytest.raises(ConfigError) as caught:
        candidates(GPT2LMHeadModel, GPT2, 0.001, removable=True)
    least = re.search("give at least ([0-9.]+)", str(caught.value))
    assert least
    assert candidates(GPT2LMHeadModel, GPT2, float(least[1]), removable=True)
    with pytest.raises(ConfigError, match="less than one; give 1"):
        make(ShrinkOptions, {"experts": 0.01}).expert_count(16)
    assert make(ShrinkOptions, {"experts": 0.05}).expert_count(16) == 1


@pytest.mark.parametrize("ratio", [0.75, 0.5, 0.25])
@pytest.mark.parametrize(
    ("architecture", "config"),
    [(ViTForImageClassification, VIT), (GPT2LMHeadModel, GPT2), (LlamaForCausalLM, LLAMA)],
    ids=["vit", "gpt2", "llama"],
)
def test_a_share_of_the_parameters(architecture: Any, config: Any, ratio: float) -> None:
    whole = parameter_count(architecture, config)
    series = candidates(architecture, config, ratio, removable=True)
    assert 1 <= len(series) <= 2
    for sizes in (sizes for some in series for sizes in some):
        share = parameter_count(architecture, resized(config, target_sizes(config, sizes))) / whole
        assert ratio - 0.2 < share <= ratio
    for some, role in zip(series, ("hidden_size", "layers"), strict=False):
        values = [sizes.given()[role] for sizes in some]
        assert values == sorted(set(values), reverse=True)


def test_two_worse_sizes_in_a_row_end_the_search() -> None:
    sizes = [Sizes(hidden_size=width) for width in (6, 5, 4, 3, 2, 1)]
    damage = dict(zip(sizes, [3.0, 1.0, 2.0, 1.5, 0.1, 0.0], strict=True))
    assert tried_candidates(sizes, damage.__getitem__, silent) == {size: damage[size] for size in sizes[:4]}


def test_settings_of_single_blocks_follow_those_that_stay() -> None:
    case = next(case for case in CASES if case.name.startswith("Cohere2"))
    config = case.configure(
        num_hidden_layers=3, layer_types=["sliding_attention", "sliding_attention", "full_attention"]
    )
    assert resized(config, Sizes(layers=2), [0, 2]).layer_types == ["sliding_attention", "full_attention"]


@pytest.mark.parametrize("name", ["Dinov2ForImageClassification", "DINOv3ViTModel", BEIT])
def test_the_stages_of_backbones_follow_the_blocks(name: str) -> None:
    config = by_name[name].configure(num_hidden_layers=4, out_indices=[1, 2, 4])
    for blocks, selected in (([0, 3], [1, 2]), ([2], [1]), ([0, 0, 1, 1, 2, 3], [2, 4, 6])):
        other = resized(config, Sizes(layers=len(blocks)), blocks)
        assert other.out_indices == selected
        assert type(config).from_dict(other.to_dict()).stage_names == other.stage_names
    assert config.out_indices == [1, 2, 4]


@pytest.mark.parametrize(("heads", "groups"), [(4, 2), (8, 2), (8, 4), (8, 8), (6, 1)])
def test_heads_of_keys_and_values_that_messages_name_are_possible(heads: int, groups: int) -> None:
    config = LlamaConfig(
        hidden_size=1680, num_attention_heads=heads, num_key_value_heads=groups, head_dim=8, num_hidden_layers=2
    )

    def possible(count: int | None, kv_heads: int | None) -> str | None:
        try:
            target_sizes(config, Sizes(heads=count, kv_heads=kv_heads))
        except ConfigError as error:
            return None if "already" in str(error) else str(error).partition("; give ")[2]
        return None

    checked = 0
    for count in [None, *range(1, heads + 1)]:
        for kv_heads in [None, *range(1, groups + 1)]:
            for advice in (possible(count, kv_heads) or "").split(", or "):
                role, numbers = advice.rpartition("heads ")[::2]
                for number in map(int, re.findall("[0-9]+", numbers)):
                    is_of_groups = role == "kv_" or (not role and "heads" not in advice and kv_heads is not None)
                    assert possible(*((count, number) if is_of_groups else (number, kv_heads))) is None, advice
                    checked += 1
    assert checked


def test_a_head_size_counts_even_if_the_class_of_the_configuration_does_not_declare_it() -> None:
    config = Qwen2Config(num_key_value_heads=2, **HEAD_OF_10)
    assert target_sizes(config, Sizes(hidden_size=12)).heads == 4
    assert target_sizes(config, Sizes(heads=2)) == Sizes(24, 2, config.intermediate_size, 2, 1, 10)
    assert resized(config, Sizes(heads=2)).head_dim == 10
    unread = PhiConfig(**HEAD_OF_10)
    assert target_sizes(unread, Sizes(hidden_size=12)).heads == 2


def test_a_field_that_repeats_the_width_follows_it() -> None:
    config = DebertaV2Config(hidden_size=24, pooler_hidden_size=24)
    assert resized(config, Sizes(hidden_size=12)).pooler_hidden_size == 12


def test_lists_that_are_as_long_as_there_are_blocks_are_not_taken_for_settings_of_them() -> None:
    assert resized(ViTConfig(num_hidden_layers=2, image_size=[32, 16]), Sizes(layers=1)).image_size == [32, 16]
    config = LlamaConfig(num_hidden_layers=3, eos_token_id=[5, 6, 7])
    assert resized(config, Sizes(layers=2)).eos_token_id == [5, 6, 7]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["no size given", "ratio"]),
        ({"ratio": 0.5, "layers": 2}, ["ratio", "layers says how small", "give one of them"]),
        ({"like": "m", "ratio": 0.5}, ["like", "ratio"]),
        ({"ratio": 1.0}, ["ratio", "less than 1"]),
        ({"layers": 0}, ["layers", "greater than or equal to 1"]),
        ({"layers": 1, "steps": 3, "minutes": 1}, ["minutes", "steps already says"]),
        ({"layers": 1, "effort": "quick", "learning_rate": 0.1}, ["learning_rate", "does not train"]),
        ({"layer": 1}, ["layer", "no such option", "did you mean 'layers'?"]),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make(ShrinkOptions, values)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message
