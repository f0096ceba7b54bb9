"""What configurations may differ in, what they may not, and how the difference is told."""

import re

import pytest
import torch
from transformers import (
    BeitConfig,
    BertConfig,
    CLIPConfig,
    DebertaV2Config,
    DistilBertConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MBartConfig,
    MistralConfig,
    ModernBertConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3MoeConfig,
    RobertaConfig,
    T5Config,
    ViTConfig,
)
from transformers.activations import ACT2FN

from transfuse.errors import SpecError
from transfuse.network.compatible import check_same_function
from transfuse.network.config_fields import SYNONYMS
from transfuse.network.families import FAMILIES, vit

LINEAR = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32}
FULL = {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}
PROPORTIONAL = {"rope_type": "proportional", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}


def refusals(ours: PreTrainedConfig, theirs: PreTrainedConfig, architecture: str | None = None) -> list[str]:
    """What is said in each order; nothing where the two fit."""
    found = []
    for anchor, source in ((ours, theirs), (theirs, ours)):
        try:
            check_same_function(anchor, source, "B", architecture)
        except SpecError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize(
    ("make", "ours", "theirs", "field"),
    [
        (LlamaConfig, {}, {"hidden_act": "gelu"}, "hidden_act"),
        (LlamaConfig, {}, {"rms_norm_eps": 1e-3}, "rms_norm_eps"),
        (LlamaConfig, {}, {"tie_word_embeddings": True}, "tie_word_embeddings"),
        (LlamaConfig, {}, {"rope_theta": 5e5}, "rope_parameters.rope_theta"),
        (LlamaConfig, {"rope_parameters": LINEAR}, {"rope_theta": 500000}, "rope_parameters.rope_type"),
        (
            LlamaConfig,
            {"rope_parameters": YARN},
            {"rope_parameters": YARN | {"beta_fast": 16}},
            "rope_parameters.beta_fast",
        ),
        (
            LlamaConfig,
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 4096},
            "max_position_embeddings",
        ),
        (LlamaConfig, {}, {"is_causal": False}, "is_causal"),  # a field that the class does not declare
        (LlamaConfig, {}, {"token_classification_bias": False}, "token_classification_bias"),
        (GPTNeoXConfig, {}, {"rotary_pct": 0.5}, "rope_parameters.partial_rotary_factor"),
        (GPTNeoXConfig, {}, {"use_parallel_residual": False}, "use_parallel_residual"),
        (MistralConfig, {}, {"sliding_window": None}, "sliding_window"),
        (
            MistralConfig,
            FULL | {"sliding_window": 64},
            FULL | {"sliding_window": None},
            "sliding_window",
        ),  # unread types
        (
            Qwen2Config,
            {"use_sliding_window": True, "num_hidden_layers": 2, "max_window_layers": 1},
            {"use_sliding_window": True, "num_hidden_layers": 2, "max_window_layers": 2},
            "layer_types",
        ),
        (Gemma2Config, {}, {"attn_logit_softcapping": None}, "attn_logit_softcapping"),
        (Gemma2Config, {}, {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        (Gemma3TextConfig, {}, {"rope_local_base_freq": 5e4}, "rope_parameters.sliding_attention.rope_theta"),
        (Gemma3TextConfig, {}, {"sliding_window_pattern": 2}, "layer_types"),
        (Phi3Config, {}, {"partial_rotary_factor": 0.5}, "rope_parameters.partial_rotary_factor"),
        (
            LlamaConfig,
            {"rope_parameters": PROPORTIONAL},
            {"rope_parameters": PROPORTIONAL | {"partial_rotary_factor": 0.5}},
            "rope_parameters.partial_rotary_factor",
        ),
        (Qwen3MoeConfig, {}, {"num_experts_per_tok": 4}, "num_experts_per_tok"),
        (Qwen3MoeConfig, {}, {"mlp_only_layers": [1]}, "mlp_only_layers"),
        (GPT2Config, {}, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        (GPT2Config, {}, {"add_cross_attention": True}, "add_cross_attention"),
        (BertConfig, {}, {"is_decoder": True}, "is_decoder"),
        (ModernBertConfig, {}, {"classifier_pooling": "mean"}, "classifier_pooling"),
        (ModernBertConfig, {}, {"local_attention": 64}, "local_attention"),
        (ModernBertConfig, {}, {"global_rope_theta": 10000.0}, "rope_parameters.full_attention.rope_theta"),
        (BeitConfig, {}, {"use_mean_pooling": False}, "use_mean_pooling"),
        (ViTConfig, {}, {"pooler_act": "gelu"}, "pooler_act"),
        (ViTConfig, {}, {"image_size": [224, 112]}, "image_size"),
        (T5Config, {}, {"tie_word_embeddings": False}, "scale_decoder_outputs"),
        (T5Config, {}, {"feed_forward_proj": "gelu"}, "dense_act_fn"),
        (T5Config, {}, {"relative_attention_max_distance": 64}, "relative_attention_max_distance"),
        (T5Config, {}, {"eos_token_id": 5}, "eos_token_id"),
        (T5Config, {}, {"decoder_start_token_id": 5}, "decoder_start_token_id"),
        (RobertaConfig, {}, {"pad_token_id": 0}, "pad_token_id"),
        (CLIPConfig, {}, {"text_config": {"eos_token_id": 2}}, "text_config.eos_token_id"),
        (CLIPConfig, {}, {"vision_config": {"hidden_act": "gelu"}}, "vision_config.hidden_act"),
    ],
)
def test_what_must_agree(make, ours, theirs, field):
    """Among them what few inputs show: windows, softcaps, pooling, tokens, fields that classes do not declare."""
    found = refusals(make(**ours), make(**theirs))
    assert len(found) == 2
    assert all(re.match(rf"B: {re.escape(field)} is .*, the anchor's is .*; ", each) for each in found), found


@pytest.mark.parametrize(
    ("make", "ours", "theirs"),
    [
        (LlamaConfig, {"training_run": "a"}, {"training_run": "b", "lora": {"rank": 8}}),  # notes of a user's own
        (LlamaConfig, {"attention_dropout": 0.1, "use_cache": False}, {"initializer_range": 0.5, "dtype": "bfloat16"}),
        (LlamaConfig, {"eos_token_id": 5, "bos_token_id": 6}, {"temperature": 0.3, "max_length": 7}),
        (LlamaConfig, {"hidden_size": 64, "num_attention_heads": 4}, {"intermediate_size": 96, "vocab_size": 9}),
        (LlamaConfig, {"max_position_embeddings": 4096}, {}),
        (LlamaConfig, {"hidden_act": "silu"}, {"hidden_act": "swish"}),
        (GPT2Config, {"activation_function": "gelu_new"}, {"activation_function": "gelu_pytorch_tanh"}),
        (
            LlamaConfig,
            {"rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2}},
            {"rope_parameters": LINEAR},
        ),
        (LlamaConfig, {"rope_parameters": {"rope_theta": 10000, "rope_type": "default", "factor": 3}}, {}),
        (LlamaConfig, {"partial_rotary_factor": 0.5}, {}),  # which Llama does not read
        (LlamaConfig, {"rope_parameters": YARN}, {"rope_parameters": YARN | {"beta_fast": 32, "mscale": None}}),
        (GPTNeoXConfig, {"rotary_pct": 0.25, "rotary_emb_base": 10000}, {}),
        (Qwen2Config, {"num_hidden_layers": 2}, {"use_sliding_window": True, "num_hidden_layers": 2}),  # nowhere
        (Qwen2Config, {"max_window_layers": 21}, {"max_window_layers": 24, "sliding_window": 99}),  # without windows
        (Gemma2Config, {"num_hidden_layers": 2}, {"num_hidden_layers": 3}),  # the layers tell that
        (Gemma2Config, {"use_bidirectional_attention": False}, {}),
        (ViTConfig, {"image_size": 224}, {"image_size": (224, 224), "encoder_stride": 8}),
        (BeitConfig, {"num_hidden_layers": 2}, {"layer_scale_init_value": 0.3, "pool_scales": (1, 2)}),
        (T5Config, {"feed_forward_proj": "gated-gelu"}, {"feed_forward_proj": "gated-gelu_new"}),
        (DebertaV2Config, {"pos_att_type": ["c2p", "p2c"]}, {"pos_att_type": "p2c|c2p"}),  # in any order
        (MBartConfig, {}, {"decoder_start_token_id": 2}),  # which only generation reads
        (CLIPConfig, {}, {"text_config": {"pad_token_id": 3, "note": 1}, "logit_scale_init_value": 1.0}),
    ],
)
def test_what_may_differ(make, ours, theirs):
    assert refusals(make(**ours), make(**theirs)) == []


@pytest.mark.parametrize(
    ("make", "ours", "theirs", "without", "reading"),
    [
        (LlamaConfig, {}, {"tie_word_embeddings": True}, "LlamaForSequenceClassification", "LlamaForCausalLM"),
        (LlamaConfig, {}, {"tie_word_embeddings": True}, "LlamaModel", "LlamaForCausalLM"),
        (GPT2Config, {}, {"tie_word_embeddings": False}, "GPT2Model", "GPT2LMHeadModel"),
        (MBartConfig, {}, {"tie_word_embeddings": False}, None, "MBartForSequenceClassification"),
        (T5Config, {}, {"tie_word_embeddings": False}, "T5EncoderModel", "T5ForConditionalGeneration"),
        (T5Config, {}, {"tie_word_embeddings": False}, "T5ForTokenClassification", "T5ForConditionalGeneration"),
        (T5Config, {}, {"eos_token_id": 5}, "T5EncoderModel", "T5ForSequenceClassification"),
        (DistilBertConfig, {}, {"sinusoidal_pos_embds": True}, "DistilBertForSequenceClassification", None),
        (FalconConfig, {"alibi": True}, {"alibi": True, "rope_theta": 5.0}, "FalconForCausalLM", None),
        (FalconConfig, {}, {"rope_theta": 5.0}, None, "FalconForCausalLM"),
    ],
)
def test_fields_that_some_classes_do_not_read(make, ours, theirs, without, reading):
    if without:
        assert refusals(make(**ours), make(**theirs), without) == []
    if reading:
        assert len(refusals(make(**ours), make(**theirs), reading)) == 2


def test_names_of_one_activation_give_the_same_values():
    values = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    for name, other in SYNONYMS.items():
        torch.testing.assert_close(ACT2FN[name](values), ACT2FN[other](values), atol=1e-11, rtol=0)


def test_a_classifier_reads_the_last_token_and_may_borrow_its_padding():
    one, other, without = (LlamaConfig(pad_token_id=number) for number in (0, 3, None))
    assert len(refusals(one, other, "LlamaForSequenceClassification")) == 2
    assert len(refusals(one, other)) == 2  # nobody says that it is none
    assert refusals(one, other, "LlamaForCausalLM") == []
    assert refusals(one, without, "LlamaForSequenceClassification") == []


def test_images_of_another_size_are_left_to_the_layers_where_those_tell_them():
    """A size that gives as many patches is told here: the model takes other images all the same."""
    name = "ViTForImageClassification"
    assert len(refusals(ViTConfig(image_size=224), ViTConfig(image_size=225), name)) == 2
    assert refusals(ViTConfig(image_size=224), ViTConfig(image_size=384), name) == []


def test_messages_say_what_to_do():
    found = refusals(CLIPConfig(), CLIPConfig(text_config={"eos_token_id": 2}))
    assert found[0] == (
        "B: text_config.eos_token_id is 2, the anchor's is 49407; models that compute differently cannot be fused;"
        " if both end texts with the same token, set it to that token's number in both"
    )
    ties = refusals(*(LlamaConfig(tie_word_embeddings=tied) for tied in (False, True)), "LlamaForCausalLM")
    assert ties[0].startswith("B: tie_word_embeddings is true, the anchor's is false; one head is the embeddings, the")
    assert "rows of their table are shifted" in refusals(RobertaConfig(), RobertaConfig(pad_token_id=0))[0]
    factors = [
        {**YARN, "rope_type": "longrope", "short_factor": [1.0] * 64, "long_factor": [each] * 64} for each in (2, 3)
    ]
    found = refusals(*(LlamaConfig(rope_parameters=each) for each in factors))
    assert len(found[0]) < 400


class OwnConfig(PreTrainedConfig):
    model_type = "own"
    width: int = 8
    slope: float = 0.1


def test_a_class_of_a_users_own_may_read_any_field(monkeypatch):
    """Sizes that its declaration reads are left to the comparison of layers."""

    def declaration(config):
        return vit.vit(ViTConfig(hidden_size=config.width, num_attention_heads=2))

    monkeypatch.setitem(FAMILIES, "OwnModel", declaration)
    assert "slope is 0.2, the anchor's is 0.1" in refusals(OwnConfig(), OwnConfig(slope=0.2), "OwnModel")[0]
    assert 'note is "x", the anchor\'s is null' in refusals(OwnConfig(), OwnConfig(note="x"), "OwnModel")[0]
    assert refusals(OwnConfig(), OwnConfig(width=16, use_cache=False), "OwnModel") == []
    assert "width is 16, the anchor's is 8" in refusals(OwnConfig(), OwnConfig(width=16))[0]  # of an unknown class
    monkeypatch.setitem(FAMILIES, "ViTForMaskedImageModeling", declaration)
    assert refusals(ViTConfig(), ViTConfig(encoder_stride=8), "ViTForImageClassification") == []
    assert len(refusals(ViTConfig(), ViTConfig(encoder_stride=8), "ViTForMaskedImageModeling")) == 2
