"""Older readers find the keys that they know, and transformers 5 reads the same as before."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, HEADS, Case
from transformers import AutoConfig, BartForSequenceClassification, PreTrainedModel

from transfuse.checkpoint.reading.load import load_model
from transfuse.checkpoint.writing.legacy_config import add_legacy_keys, with_legacy_keys
from transfuse.network.compatible import check_same_function
from transfuse.network.inputs import example_inputs
from transfuse.network.outputs import model_output

KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 16},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8},
    "longrope": {"factor": 4.0, "original_max_position_embeddings": 8},
}
PLAIN = ("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM",
         "Qwen3MoeForCausalLM", "Olmo2ForCausalLM", "Gemma2ForCausalLM", "GPTNeoXForCausalLM")  # fmt: skip
THETA = 5000.0
GENERIC = {"id2label": None, "label2id": None}


def made(name: str) -> Case:
    return next(case for case in [*CASES, *HEADS] if case.name == name)


def scaled(kind: str, channels: int, **more: Any) -> dict[str, Any]:
    """Rotary settings; `channels` are those of a head that rotate."""
    factors = {"short_factor": [1.0] * (channels // 2), "long_factor": [3.0] * (channels // 2)}
    extra = KINDS[kind] | (factors if kind == "longrope" else {})
    return {"rope_type": kind, "rope_theta": THETA, **extra, **more}


def plain(value: Any) -> Any:
    """A value without the older key of rotary settings, whose newer one is beside it."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name != "type"}
    return value


def written(model: PreTrainedModel, folder: Path) -> dict[str, Any]:
    """The config.json of the saved model, with legacy keys; what transformers 5 reads of it is unchanged."""
    model.save_pretrained(folder)
    before = AutoConfig.from_pretrained(folder)
    expected = model_output(load_model(folder), example_inputs(model.config))
    add_legacy_keys(folder)
    text = (folder / "config.json").read_text()
    after = AutoConfig.from_pretrained(folder)
    check_same_function(before, after)
    fields = before.to_dict().keys()
    assert {name: plain(after.to_dict()[name]) for name in fields} == {
        name: plain(before.to_dict()[name]) for name in fields
    }
    assert torch.equal(model_output(load_model(folder), example_inputs(after)), expected)
    add_legacy_keys(folder)
    assert (folder / "config.json").read_text() == text
    after.save_pretrained(folder / "again")
    check_same_function(before, AutoConfig.from_pretrained(folder / "again"))
    return json.loads(text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PLAIN)
def test_one_set_of_rotary_settings(name, kind, tmp_path):
    neox = name.startswith("GPTNeoX")
    channels = 4 if neox or "head_dim" not in made(name).sizes else made(name).sizes["head_dim"]
    partial = {"partial_rotary_factor": 0.5} if neox else {}
    model = made(name).build(rope_parameters=scaled(kind, channels, **partial)).float()
    found = written(model, tmp_path)
    assert found["torch_dtype"] == found["dtype"] == "float32"
    assert found["rotary_emb_base" if neox else "rope_theta"] == THETA
    assert ("rope_theta" in found) != neox
    if neox:
        assert found["rotary_pct"] == 0.5
    if kind == "default":
        assert found["rope_scaling"] is None
        return
    assert found["rope_scaling"]["type"] == found["rope_scaling"]["rope_type"] == kind
    assert KINDS[kind].items() <= found["rope_scaling"].items()


def test_phi3_takes_three_keys_or_none(tmp_path):
    case = made("Phi3ForCausalLM")
    for number, (partial, factors, kept) in enumerate(
        [(0.5, {}, True), (1.0, {}, True), (1.0, {"factor": 2.0}, False)]
    ):
        channels = int(4 * partial)
        rotary = scaled("longrope", channels, partial_rotary_factor=partial) | factors
        if not factors:
            del rotary["factor"]
        model = case.build(rope_parameters=rotary, original_max_position_embeddings=8).float()
        found = written(model, tmp_path / str(number))
        assert found["rope_theta"] == THETA
        assert found["partial_rotary_factor"] == partial
        assert ("rope_scaling" in found) == kept
        if kept:
            assert sorted(found["rope_scaling"]) == ["long_factor", "short_factor", "type"]


@pytest.mark.parametrize("kind", ["default", "linear"])
def test_gemma3_has_two_bases(kind, tmp_path):
    rotary = {"full_attention": scaled(kind, 6), "sliding_attention": {"rope_type": "default", "rope_theta": 70.0}}
    found = written(made("Gemma3ForCausalLM").build(rope_parameters=rotary).float(), tmp_path)
    assert (found["rope_theta"], found["rope_local_base_freq"], found["sliding_window_pattern"]) == (THETA, 70.0, 6)
    assert (found["rope_scaling"] is None) == (kind == "default")


@pytest.mark.parametrize(
    ("model_type", "key", "first"),
    [
        ("gemma3_text", "sliding_window_pattern", 1),
        ("cohere2", "sliding_window_pattern", 1),
        ("modernbert", "global_attn_every_n_layers", 0),
    ],
)
def test_a_pattern_of_layers_is_that_of_their_types(model_type, key, first):
    """Blocks may have been removed since the pattern was written; `first` is the number of the first layer."""

    def found(period: int, *types: str) -> int | None:
        layers = [f"{kind}_attention" for kind in types]
        return with_legacy_keys({"model_type": model_type, "layer_types": layers, key: period}).get(key)

    every_third = ["full" if (layer + first) % 3 == 0 else "sliding" for layer in range(4)]
    assert found(3, *every_third) == found(6, *every_third) == 3
    assert found(7, *every_third[:2]) == 7
    assert found(6, "full", "full", "sliding") is None
    assert with_legacy_keys({"model_type": model_type, key: 6})[key] == 6


def test_modernbert_has_two_bases_and_a_pattern(tmp_path):
    rotary = {name: {"rope_type": "default", "rope_theta": base}
              for name, base in (("full_attention", THETA), ("sliding_attention", 70.0))}  # fmt: skip
    found = written(made("ModernBertForMaskedLM").build(rope_parameters=rotary).float(), tmp_path)
    assert (found["global_rope_theta"], found["local_rope_theta"]) == (THETA, 70.0)
    assert found["global_attn_every_n_layers"] == 2
    odd = {**found, "layer_types": ["sliding_attention", "full_attention"]}
    del odd["global_attn_every_n_layers"]
    assert "global_attn_every_n_layers" not in with_legacy_keys(odd)


def test_the_number_of_experts_has_its_older_name(tmp_path):
    found = written(made("Qwen3MoeForCausalLM").build().float(), tmp_path)
    assert found["num_experts"] == found["num_local_experts"] == 3


def test_towers_too(tmp_path):
    found = written(made("CLIPModel").build().float(), tmp_path)
    assert found["torch_dtype"] == "float32"


@pytest.mark.parametrize("own_head", [False, True])
def test_a_t5_that_does_not_scale_says_so_to_both_where_its_head_is_in_the_file(own_head, tmp_path):
    case = next(each for each in CASES if each.sizes.get("feed_forward_proj") == "gated-gelu")
    model = case.build().float()
    if own_head:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight + 1)
        model.config.tie_word_embeddings = False
        model.all_tied_weights_keys = {}
    found = written(model, tmp_path)
    assert found["scale_decoder_outputs"] is False
    assert found["tie_word_embeddings"] is not own_head


@pytest.mark.parametrize("labels", [2, 3])
def test_two_classes_without_names_are_read_as_two(labels: int, tmp_path: Path) -> None:
    """A BART has three unless its configuration says otherwise."""
    case = next(case for case in HEADS if case.name == "BartForSequenceClassification")
    config = case.build(1).config
    model = BartForSequenceClassification(type(config)(**config.to_dict() | GENERIC, num_labels=labels))
    model.save_pretrained(tmp_path)
    add_legacy_keys(tmp_path)
    assert load_model(tmp_path).config.num_labels == labels
