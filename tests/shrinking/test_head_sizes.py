"""Heads with more and with fewer channels: exact where nothing is lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, Case
from languages import TEXTS, llama, saved
from transformers import PreTrainedModel
from wide_models import doubled, neox, with_gains

import transfuse
from transfuse.base.batch import cast
from transfuse.base.progress import silent
from transfuse.base.timing import Stopwatch
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.sizes.wider import wider
from transfuse.network.model import network
from transfuse.network.sizes import Sizes, resized, sizes_of
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.possible import checked_sizes
from transfuse.shrinking.shrink import shrunk_model

QUICK = make(ShrinkOptions, {"ratio": 0.5, "effort": "quick"})
FAMILIES = (
    "ViTForImageClassification",
    "BertForMaskedLM",
    "DistilBertForMaskedLM",
    "GPTNeoXForCausalLM",
    "LlamaForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Phi3ForCausalLM",
    "PhiForCausalLM",
    "Qwen3MoeForCausalLM",
    "SmolLM3ForCausalLM",
    "Cohere2ForCausalLM",
    "FalconForCausalLM",
    "GptOssForCausalLM",
    "GraniteForCausalLM",
)
ONLY_LARGER = ("GPTJForCausalLM", "ModernBertForMaskedLM", "Dinov2ForImageClassification", "OlmoForCausalLM")
by_name = {case.name: case for case in CASES}


@pytest.mark.parametrize("name", [*FAMILIES, *ONLY_LARGER])
def test_heads_with_more_channels_compute_the_same(name: str) -> None:
    case = by_name[name]
    model = with_gains(case.build(1))
    wide = wider(model, resized(model.config, doubled(model.config)))
    assert sizes_of(wide.config) == doubled(model.config)
    expected = case.logits(model)
    assert (case.logits(wide) - expected).abs().max() < 1e-9 * expected.abs().max()


SHARING = [name for name in FAMILIES if sizes_of(by_name[name].configure()).kv_heads]


@pytest.mark.parametrize("name", SHARING)
def test_query_heads_that_share_keys_and_that_do_not(name: str) -> None:
    """Shared keys are repeated. Then each head gets idle ones, with which it shares its keys."""
    case = by_name[name]
    model = with_gains(case.build(1))
    own = sizes_of(model.config)
    assert own.heads
    expected = case.logits(model)
    alone = wider(model, resized(model.config, replace(own, kv_heads=own.heads)))
    assert (case.logits(alone) - expected).abs().max() < 1e-9 * expected.abs().max()
    more = resized(model.config, replace(own, heads=3 * own.heads, kv_heads=own.heads))
    if name in ("PhiForCausalLM", "FalconForCausalLM"):  # more heads would be smaller
        with pytest.raises(SpecError, match="fewer channels"):
            wider(alone, more)
        return
    shared = wider(alone, more)
    assert (sizes_of(shared.config).heads, sizes_of(shared.config).kv_heads) == (3 * own.heads, own.heads)
    assert (case.logits(shared) - expected).abs().max() < 1e-9 * expected.abs().max()


def smaller(case: Case, large: PreTrainedModel, sizes: Sizes) -> PreTrainedModel:
    batches = [cast(case.inputs(large.config, seed), torch.float64) for seed in range(20)]
    return shrunk_model(network(large, torch.device("cpu")), sizes, batches, QUICK, silent, Stopwatch())[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_channels_that_say_nothing_are_not_missed(name: str) -> None:
    case = by_name[name]
    model = with_gains(case.build(1))
    if sizes_of(model.config).head_size == 6:  # half of the rotary channels are an odd number
        model = with_gains(case.build(1, head_dim=4))
    expected = case.logits(model)
    wide = wider(model, resized(model.config, doubled(model.config)))
    small = smaller(case, wide, checked_sizes(wide, sizes_of(model.config), "M"))
    assert sizes_of(small.config) == sizes_of(model.config)
    assert (case.logits(small) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_channels_query_heads_groups_and_the_stream_become_fewer_together() -> None:
    case = by_name["Qwen3ForCausalLM"]
    model = with_gains(case.build(1, head_dim=8, num_attention_heads=6, num_key_value_heads=2))
    small = smaller(case, model, target_sizes(model.config, Sizes(16, 1, 20, 2, 1, 4)))
    assert small.model.layers[0].self_attn.q_proj.weight.shape == (8, 16)
    expected, found = case.logits(model), case.logits(small)
    assert (found - expected).square().mean() < 1.5 * expected.var()


def test_the_channels_that_matter_stay() -> None:
    """All of the values' channels but two are made weak."""
    case = by_name["ViTForImageClassification"]
    model = case.build(1)
    own = sizes_of(model.config)
    with torch.no_grad():
        for layer in model.vit.layers:
            values = layer.attention.v_proj if hasattr(layer.attention, "v_proj") else layer.attention.attention.value
            strength = torch.full((own.head_size or 0,), 1e-3, dtype=torch.float64)
            strength[[2, 5]] = 1.0
            values.weight *= strength.repeat(own.heads or 0).unsqueeze(1)
    expected = case.logits(model)
    small = smaller(case, model, target_sizes(model.config, Sizes(head_size=4)))
    random = smaller(case, case.build(1), target_sizes(model.config, Sizes(head_size=4)))
    errors = [(case.logits(each) - expected).square().mean() for each in (small, random)]
    assert errors[0] < errors[1]


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("Olmo2ForCausalLM", {}, "norms of queries and keys do not allow"),
        ("OlmoForCausalLM", {"clip_qkv": 0.5}, "channels of 0.v cannot be mixed"),
        ("Qwen3_5ForCausalLM", {}, "fixed meaning"),
        ("AlbertForMaskedLM", {}, "a block runs several times"),
        ("FalconForCausalLM-alibi", {}, "ALiBi are divided by the size of heads"),
        ("GPTJForCausalLM", {}, "4 channels are rotary .rotary_dim.; give more"),
        ("DINOv3ViTModel", {"hidden_size": 24}, "need a multiple of 4"),
    ],
)
def test_families_whose_heads_keep_their_size(name: str, changes: dict[str, Any], reason: str) -> None:
    model = by_name[name].build(0, **changes)
    with pytest.raises((ConfigError, SpecError), match=reason):
        checked_sizes(model, Sizes(head_size=(sizes_of(model.config).head_size or 0) // 2), "M")


def test_frequencies_that_do_not_contain_each_other() -> None:
    case = by_name["LlamaForCausalLM"]
    with pytest.raises(ConfigError, match=r"rotary heads of size 6 cannot become heads of size 4"):
        checked_sizes(case.build(), Sizes(head_size=4), "M")
    partly = neox(9, 24)  # 6 rotary channels of 12
    with pytest.raises(ConfigError, match="numbers of rotary channels have to be even"):
        checked_sizes(partly, Sizes(head_size=6), "M")
    for kind in ("yarn", "dynamic"):
        scaled = {"rope_type": kind, "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 8}
        with pytest.raises(ConfigError, match=f"rotary positions of type {kind} keep their size"):
            checked_sizes(case.build(head_dim=8, rope_parameters=scaled), Sizes(head_size=4), "M")


def test_scores_that_are_not_divided_by_the_size_of_heads() -> None:
    case = by_name["GPT2LMHeadModel-tie_word_embeddings"]
    model = with_gains(case.build(1, scale_attn_weights=False))
    expected = case.logits(model)
    wide = wider(model, resized(model.config, doubled(model.config)))
    small = smaller(case, wide, checked_sizes(wide, sizes_of(model.config), "M"))
    for found in (wide, small):
        assert (case.logits(found) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_falcon_of_the_old_architecture_does_not_read_its_number_of_key_value_heads() -> None:
    case = by_name["FalconForCausalLM"]
    one, six = (case.build(1, new_decoder_architecture=False, multi_query=True, num_kv_heads=n) for n in (1, 6))
    assert sizes_of(one.config) == sizes_of(six.config)


def test_an_interrupted_run_continues_with_the_same_channels(tmp_path: Path) -> None:
    path = saved(tmp_path / "model", lambda words: llama(words, head_dim=8), 0)
    first, second = (
        transfuse.shrink(path, data=TEXTS, head_size=4, effort="quick", cache=tmp_path / "cache") for _ in range(2)
    )
    for name, values in first.model.state_dict().items():
        assert torch.equal(values, second.model.state_dict()[name])
    assert first.record["sizes"]["small"]["head_size"] == 4
