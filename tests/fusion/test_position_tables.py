"""With --positions anchor, models of other image sizes, or with more positions of text, are fused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cases import BEIT, BERT, DEBERTA, GPT2, LLAMA, VIT
from transformers import (
    BeitConfig,
    BeitForImageClassification,
    BertConfig,
    BertForMaskedLM,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    Dinov2Config,
    Dinov2Model,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

import transfuse
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.models.position_tables import with_anchor_positions
from transfuse.network.inputs import example_inputs


def vit(size: int, seed: int) -> ViTForImageClassification:
    torch.manual_seed(seed)
    model = ViTForImageClassification(ViTConfig(**VIT | {"image_size": size})).eval()
    torch.nn.init.normal_(model.vit.embeddings.position_embeddings)
    return model


@pytest.mark.parametrize(("size", "other"), [(12, 16), (16, 12), (8, 20)])
def test_positions_of_images_are_interpolated_as_transformers_does(size: int, other: int) -> None:
    anchor, source = vit(size, 1), vit(other, 2)
    pixels = example_inputs(anchor.config)["pixel_values"]
    changed = with_anchor_positions(source, anchor, "source")
    expected = source(pixels, interpolate_pos_encoding=True).logits
    assert torch.allclose(changed(pixels).logits, expected, atol=1e-5)
    assert source.config.image_size == other


def test_positions_of_dinov2() -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4, "num_channels": 2}
    torch.manual_seed(1)
    anchor, source = (Dinov2Model(Dinov2Config(**sizes, image_size=size)).eval() for size in (12, 20))
    pixels = example_inputs(anchor.config)["pixel_values"]
    changed = with_anchor_positions(source, anchor, "source")
    assert torch.allclose(changed(pixels)[0], source(pixels)[0], atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("size", "other"), [(12, 24), (24, 12)])
def test_distances_of_beit_are_interpolated_as_transformers_does(size: int, other: int, shared: bool) -> None:
    kind = "use_shared_relative_position_bias" if shared else "use_relative_position_bias"
    biased = BEIT | {kind: True, "use_absolute_position_embeddings": False}
    torch.manual_seed(1)
    anchor, source = (
        BeitForImageClassification(BeitConfig(**biased | {"image_size": side})).eval() for side in (size, other)
    )
    for name, values in source.named_parameters():
        if "position" in name:
            torch.nn.init.normal_(values)
    pixels = example_inputs(anchor.config)["pixel_values"]
    changed = with_anchor_positions(source, anchor, "source")
    expected = source(pixels, interpolate_pos_encoding=True).logits
    assert torch.allclose(changed(pixels).logits, expected, atol=1e-5)
    with pytest.raises(SpecError, match=rf"image_size is {other}, the anchor's is {size}; .* with --positions anchor"):
        transfuse.fuse([anchor, source])
    assert transfuse.fuse([anchor, source], positions="anchor").model.config.image_size == size


def test_distances_of_a_grid_with_other_sides() -> None:
    sizes = BEIT | {"use_relative_position_bias": True, "num_hidden_layers": 1}
    anchor, source = (BeitForImageClassification(BeitConfig(**sizes | {"image_size": [8, width]})) for width in (8, 12))
    (table,) = (values for name, values in source.named_parameters() if name.endswith("bias_table"))
    grid = torch.arange(3.0)[:, None].expand(3, 5).reshape(15)  # rows of distances, equal in all columns
    table.data = torch.cat([grid, torch.tensor([7.0, 8.0, 9.0])])[:, None].repeat(1, table.shape[1])
    changed = with_anchor_positions(source, anchor, "source")
    (values,) = (values for name, values in changed.named_parameters() if name.endswith("bias_table"))
    assert torch.equal(values[-3:, 0], torch.tensor([7.0, 8.0, 9.0]))
    assert torch.equal(values[:-3, 0].reshape(3, 3), torch.arange(3.0)[:, None].expand(3, 3))


def test_models_of_two_image_sizes_are_fused(tmp_path: Path) -> None:
    anchor, source = vit(12, 1), vit(16, 2)
    with pytest.raises(SpecError, match=r"image_size is 16, the anchor's is 12; .* or fuse with --positions anchor"):
        transfuse.fuse([anchor, source])
    fusion = transfuse.fuse([anchor, source], positions="anchor")
    assert fusion.model.config.image_size == 12
    assert fusion.options.positions == "anchor"
    fusion.save(tmp_path / "out")


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda sizes: GPT2LMHeadModel(GPT2Config(**GPT2 | sizes)), "n_positions"),
        (lambda sizes: BertForMaskedLM(BertConfig(**BERT | sizes)), "max_position_embeddings"),
    ],
    ids=["gpt2", "bert"],
)
def test_positions_of_texts_are_cut_off(build, field: str) -> None:
    torch.manual_seed(1)
    anchor, source = build({field: 10}).eval(), build({field: 14}).eval()
    batch = example_inputs(anchor.config)
    changed = with_anchor_positions(source, anchor, "source")
    assert torch.equal(changed(**batch).logits, source(**batch).logits)
    assert getattr(transfuse.fuse([anchor, source], positions="anchor").model.config, field) == 10
    with pytest.raises(ConfigError, match="model 2: its table has 10 positions, the anchor's 14; make this model the"):
        transfuse.fuse([source, anchor], positions="anchor")


LENGTH_READ = {  # the forward pass of these models reads max_position_embeddings
    "deberta": lambda length: DebertaV2ForMaskedLM(DebertaV2Config(**DEBERTA | {"max_position_embeddings": length})),
    "deberta without buckets": lambda length: DebertaV2ForMaskedLM(
        DebertaV2Config(**DEBERTA | {"max_position_embeddings": length, "position_buckets": -1})
    ),
    "dynamic": lambda length: llama(length, {"rope_type": "dynamic", "factor": 2.0}),
    "longrope": lambda length: llama(
        length,
        {
            "rope_type": "longrope",
            "short_factor": [1.0] * 3,
            "long_factor": [2.0, 3.0, 4.0],
            "original_max_position_embeddings": 8,
        },
    ),
}


def llama(length: int, rotary: dict[str, Any]) -> LlamaForCausalLM:
    settings = LLAMA | {"max_position_embeddings": length, "rope_parameters": rotary | {"rope_theta": 100.0}}
    return LlamaForCausalLM(LlamaConfig(**settings))


@pytest.mark.parametrize("build", LENGTH_READ.values(), ids=LENGTH_READ)
def test_a_number_of_positions_that_the_forward_pass_reads_is_not_changed(build) -> None:
    anchor, source = build(16).eval(), build(32).eval()
    assert with_anchor_positions(source, anchor, "source") is source
    with pytest.raises(SpecError, match="model 2: max_position_embeddings is 32, the anchor's is 16; models that comp"):
        transfuse.fuse([anchor, source], positions="anchor")


CLIP = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def clip(size: int, positions: int, seed: int) -> CLIPModel:
    torch.manual_seed(seed)
    vision = CLIP | {"image_size": size, "patch_size": 4}
    text = CLIP | {"vocab_size": 20, "max_position_embeddings": positions, "eos_token_id": 3, "bos_token_id": 2}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).eval()


def test_both_tables_of_images_and_texts_are_changed() -> None:
    anchor, source = clip(12, 10, 1), clip(16, 14, 2)
    pixels, ids = torch.randn(2, 3, 12, 12), torch.tensor([[5, 7, 9, 3], [6, 3, 3, 3]])
    changed = with_anchor_positions(source, anchor, "source")
    with torch.no_grad():
        found = changed(input_ids=ids, pixel_values=pixels).logits_per_image
        expected = source(input_ids=ids, pixel_values=pixels, interpolate_pos_encoding=True).logits_per_image
    assert torch.allclose(found, expected, atol=1e-5)
    assert (source.config.vision_config.image_size, source.config.text_config.max_position_embeddings) == (16, 14)
    config = transfuse.fuse([anchor, source], positions="anchor").model.config
    assert (config.vision_config.image_size, config.text_config.max_position_embeddings) == (12, 10)
    with pytest.raises(ConfigError, match="model 2: its table has 10 positions, the anchor's 14"):
        transfuse.fuse([clip(12, 14, 1), clip(12, 10, 2)], positions="anchor")
    for other in (clip(16, 10, 2), clip(12, 14, 2)):
        with pytest.raises(SpecError, match=r"model 2: .* or fuse with --positions anchor"):
            transfuse.fuse([anchor, other])


def test_positions_of_the_text_half_alone_are_cut_off() -> None:
    sizes = CLIP | {"vocab_size": 20, "projection_dim": 8, "eos_token_id": 3}
    anchor, source = (
        CLIPTextModelWithProjection(CLIPTextConfig(**sizes, max_position_embeddings=count)).eval() for count in (10, 14)
    )
    ids = torch.tensor([[5, 7, 9, 3]])
    changed = with_anchor_positions(source, anchor, "source")
    assert torch.equal(changed(ids).text_embeds, source(ids).text_embeds)
