"""Models of other widths than the anchor get its widths: without a change of their function if they are narrower."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, VIT, Case
from languages import TEXTS, gpt2, llama, saved
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    ElectraForPreTraining,
    Olmo2Model,
    PreTrainedModel,
    ViTConfig,
    ViTModel,
)
from wide_models import with_gains

import transfuse
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.sizes.anchor_sizes import with_anchor_sizes
from transfuse.fusion.sizes.wider import wider
from transfuse.network.sizes import Sizes, resized, sizes_of

WIDTHS = ("hidden_size", "intermediate_size", "heads", "kv_heads")
NORMED_HEADS = ("Olmo2", "Olmo3", "Olmoe")  # idle heads make the mean square of a norm smaller, but not its epsilon
NOT_WIDENED = (  # no gain at a tied head, no gains at all, biases by head
    "OlmoForCausalLM-attention_bias",
    "OPTForCausalLM-activation_function",
    "FalconForCausalLM-alibi",
    "BloomForCausalLM",
)
ROTATED = (
    "ViTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
    "Dinov2ForImageClassification",
    "BeitForImageClassification-use_relative_position_bias",
    "GPT2LMHeadModel-tie_word_embeddings",
    "ViTMAEForPreTraining",
)  # of which streams may be of any larger width, if heads keep their number
STREAMS = (
    "LlamaForCausalLM",
    "LlamaForCausalLM-attention_bias-mlp_bias",
    "Qwen3ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "GemmaForCausalLM",
    "Olmo2ForCausalLM",
    "SmolLM3ForCausalLM",
    "GraniteForCausalLM",
    "Qwen3_5ForCausalLM-attention_bias",
    "EuroBertForMaskedLM",
    "Olmo3ForCausalLM",
)  # the same for RMSNorm, even if the head is tied


def sizes(case: Case) -> Sizes | None:
    try:
        return sizes_of(case.build(0).config)
    except SpecError:
        return None


WIDENED = [case for case in CASES if sizes(case) and not case.name.startswith(NOT_WIDENED)]


def widened_config(model: PreTrainedModel, factor: float) -> Any:
    own = sizes_of(model.config)
    wide = {role: int(factor * size) for role, size in own.given().items() if role in WIDTHS}
    return resized(model.config, replace(own, head_size=None, **wide))


def widened(model: PreTrainedModel, factor: float) -> PreTrainedModel:
    return wider(model, widened_config(model, factor))


@pytest.mark.parametrize("case", WIDENED, ids=lambda case: case.name)
def test_a_wider_model_computes_the_same(case: Case) -> None:
    model = with_gains(case.build(1))
    expected = case.logits(model)
    tolerance = 1e-3 if case.name.startswith(NORMED_HEADS) else 1e-6
    assert (case.logits(widened(model, 2)) - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("name", ROTATED)
def test_streams_that_rotate_get_any_larger_width(name: str) -> None:
    """Heads have more channels then, so that queries get another factor."""
    case = next(case for case in CASES if case.name == name)
    model = with_gains(case.build(1))
    expected = case.logits(model)
    wide = widened(model, 1.5)
    assert sizes_of(wide.config).hidden_size == 1.5 * (sizes_of(model.config).hidden_size or 0)
    assert (case.logits(wide) - expected).abs().max() < 1e-6 * expected.abs().max()


@pytest.mark.parametrize("name", STREAMS)
def test_streams_behind_rms_norms_get_any_larger_width(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    model = with_gains(case.build(1))
    expected = case.logits(model)
    own = sizes_of(model.config)
    wide = wider(model, resized(model.config, replace(own, hidden_size=(own.hidden_size or 0) * 3 // 2)))
    assert (case.logits(wide) - expected).abs().max() < 1e-6 * expected.abs().max()


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model.eval()(torch.arange(12).unsqueeze(0)).logits


def test_a_wider_copy_is_recovered_by_weights() -> None:
    narrow = with_gains(gpt2(40))
    fusion = transfuse.fuse([widened(narrow, 2), narrow])
    assert "it gets wider without a change of its function" in fusion.record["resized"][0]
    assert (logits(fusion.model) - logits(narrow)).abs().max() < 1e-3 * logits(narrow).abs().max()


def test_a_wider_copy_is_made_narrow_again(tmp_path: Path) -> None:
    """What a wider model gives up is not missed if it only repeats the rest."""
    path = saved(tmp_path / "narrow", llama, 0)
    narrow = AutoModelForCausalLM.from_pretrained(path)
    wide = widened(narrow, 2)
    wide.save_pretrained(tmp_path / "wide")
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.save_pretrained(tmp_path / "wide")
    fusion = transfuse.fuse([path, tmp_path / "wide"], TEXTS, merge="least-squares", samples=30)
    assert (
        "it gives up units that matter least, and its layers are fitted to the samples" in fusion.record["resized"][0]
    )
    texts = tokenizer(TEXTS[:4], return_tensors="pt", padding=True)
    expected, found = (each.eval()(**texts).logits[texts.attention_mask == 1] for each in (narrow, fusion.model))
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()


def test_the_whole_wider_model_teaches(tmp_path: Path) -> None:
    narrow, wide = saved(tmp_path / "narrow", llama, 0), tmp_path / "wide"
    widened(with_gains(AutoModelForCausalLM.from_pretrained(narrow)), 2).save_pretrained(wide)
    AutoTokenizer.from_pretrained(narrow).save_pretrained(wide)
    matched = transfuse.match([narrow, wide], TEXTS, merge="learned", steps=1)
    assert [model.config.hidden_size for model in matched.inputs.whole.values()] == [48]
    assert {model.config.hidden_size for model in matched.inputs.models} == {24}


def test_half_precision_is_widened_in_single_precision() -> None:
    narrow = with_gains(gpt2(40)).bfloat16()
    wide = widened(narrow, 2)
    assert wide.dtype == torch.float32
    assert (logits(wide) - logits(narrow)).abs().max() < 0.02 * logits(narrow).abs().max()


def test_models_that_are_larger_in_some_sizes_only() -> None:
    anchor = gpt2(40)
    own = sizes_of(anchor.config)
    assert own.intermediate_size
    torch.manual_seed(3)
    other = type(anchor)(resized(anchor.config, replace(own, layers=1, intermediate_size=2 * own.intermediate_size)))
    with pytest.raises(ConfigError, match=r"b: has 1 block and 74 hidden units, the anchor has 2 blocks and 37 hidden"):
        with_anchor_sizes([anchor, other], ["a", "b"])


def test_without_samples_nothing_tells_what_matters() -> None:
    narrow = gpt2(40)
    with pytest.raises(ConfigError, match="give --data, which tells what of it matters, or put it first"):
        transfuse.fuse([narrow, widened(narrow, 2)])


def dinov3(seed: int) -> PreTrainedModel:
    """A model with rotary positions, whose heads share no keys."""
    return next(case for case in CASES if case.name == "DINOv3ViTModel").build(seed)


@pytest.mark.parametrize(
    ("build", "changes", "reason"),
    [
        (
            llama,
            {"head_dim": 4, "intermediate_size": 20},
            "rotary heads of size 4 cannot become heads of size 6.*whose heads agree",
        ),
        (gpt2, {"n_head": 1}, "1 head of .* channels would not make a width of 24.*use --align flow"),
        (dinov3, {"num_attention_heads": 1}, "1 head of 8 channels would not make a width of 16.*whose heads agree"),
    ],
)
def test_heads_of_other_sizes(build: Any, changes: dict[str, Any], reason: str) -> None:
    anchor = build(40)
    config = copy.deepcopy(anchor.config)
    for name, value in changes.items():
        setattr(config, name, value)
    with pytest.raises(ConfigError, match=reason):
        with_anchor_sizes([anchor, type(anchor)(config)], ["a", "b"])


def test_embeddings_of_a_width_of_their_own() -> None:
    case = next(case for case in CASES if case.name == "ElectraForMaskedLM")
    anchor = case.build(0)
    own = sizes_of(anchor.config)
    config = resized(anchor.config, replace(own, intermediate_size=20))
    config.embedding_size = anchor.config.embedding_size + 4
    message = f"its embedding_size would be {config.embedding_size}, not {anchor.config.embedding_size}"
    with pytest.raises(ConfigError, match=message):
        with_anchor_sizes([anchor, type(anchor)(config)], ["a", "b"])


def test_embeddings_of_a_width_that_follows_the_stream() -> None:
    """ELECTRA's discriminator has embeddings as wide as its stream, and its generator has the same embeddings."""
    case = next(case for case in CASES if case.name == "ElectraForMaskedLM")
    discriminator = case.configure(embedding_size=24)
    generator = case.configure(embedding_size=24, hidden_size=8, num_attention_heads=1)
    models = [case.architecture(config) for config in (generator, discriminator)]
    with pytest.raises(ConfigError, match="its embedding_size would be 8, not 24"):
        with_anchor_sizes(models, ["a", "b"])
    with pytest.raises(ConfigError, match="is a ElectraForMaskedLM, but the anchor is a ElectraForPreTraining"):
        transfuse.fuse([ElectraForPreTraining(discriminator), models[0]])


@pytest.mark.parametrize("factor", [2, 1.5])
def test_models_without_a_head_keep_the_angles_of_their_states(factor: float) -> None:
    narrow = with_gains(ViTModel(ViTConfig(**VIT)))
    wide = type(narrow)(resized(narrow.config, sizes_of(widened_config(narrow, factor))))
    assert wide.config.pooler_output_size == wide.config.hidden_size
    if factor == 2:
        changed = with_anchor_sizes([wide, narrow], ["a", "b"])[1]
        assert changed.config.hidden_size == wide.config.hidden_size


def test_a_model_without_a_head_that_would_compute_something_else_is_refused() -> None:
    """Untrained queries are so small that the epsilon of their norm over all heads matters."""
    case = next(case for case in CASES if case.name == "Olmo2ForCausalLM")
    narrow, wide = (with_gains(Olmo2Model(case.configure(**sizes))) for sizes in ({}, case.doubled()))
    with pytest.raises(ConfigError, match="computes something else"):
        with_anchor_sizes([wide, narrow], ["a", "b"])


def test_what_both_orders_cannot_do_is_not_advised() -> None:
    anchor = gpt2(40)
    own = sizes_of(anchor.config)
    other = type(anchor)(resized(anchor.config, replace(own, layers=1, intermediate_size=80)))
    with pytest.raises(ConfigError, match=r"what of it matters$"):
        with_anchor_sizes([anchor, other], ["a", "b"])


def test_a_cache_keeps_smaller_models_of_other_samples_apart(tmp_path: Path) -> None:
    narrow, wide = saved(tmp_path / "narrow", llama, 0), tmp_path / "wide"
    torch.manual_seed(3)
    config = AutoModelForCausalLM.from_pretrained(narrow).config
    own = sizes_of(config)
    assert own.intermediate_size
    type(llama(40))(resized(config, replace(own, intermediate_size=2 * own.intermediate_size))).save_pretrained(wide)
    AutoTokenizer.from_pretrained(narrow).save_pretrained(wide)
    options = {"merge": "mean", "match_on": "weights", "samples": 12}
    for texts in (TEXTS[:12], TEXTS[12:24]):
        cached = transfuse.fuse([narrow, wide], texts, cache=tmp_path / "cache", **options)
        fresh = transfuse.fuse([narrow, wide], texts, **options)
        assert torch.equal(logits(cached.model), logits(fresh.model))


def test_samples_that_widening_does_not_need_are_held_out(tmp_path: Path) -> None:
    narrow = saved(tmp_path / "narrow", llama, 0)
    wide = widened(AutoModelForCausalLM.from_pretrained(narrow), 2)
    matched = transfuse.match([wide, narrow], TEXTS, processor=narrow, merge="mean", match_on="weights")
    assert matched.inputs.resized
    assert not matched.uses_samples


def test_the_flow_maps_widths_itself() -> None:
    narrow = gpt2(40)
    fusion = transfuse.fuse([widened(narrow, 2), narrow], align="flow", match_on="weights")
    assert "resized" not in fusion.record
