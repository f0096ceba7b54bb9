"""The outputs of blocks as rows: padding is left out, and errors stay finite."""

import pytest
import torch
from cases import CASES

from transfuse.base.batch import row_positions, token_mask
from transfuse.config.literals import LearningOptions
from transfuse.distillation.streams import relative_error
from transfuse.distillation.teacher_weighting import uniform
from transfuse.merging.training.learned_weights import WeightDistillation


def test_an_error_is_relative_to_the_variance() -> None:
    target = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    assert float(relative_error(target + 1, target)) == pytest.approx(4 / 2)


@pytest.mark.parametrize(("target", "expected"), [([[1.0, 2.0]], 2 / 5), ([[0.0, 0.0]], 0.0)])
def test_a_target_without_variance_has_a_finite_error(target: list[list[float]], expected: float) -> None:
    values = torch.tensor(target)
    moved = values + 1 if values.any() else values
    assert float(relative_error(moved, values)) == pytest.approx(expected)


def test_modules_of_a_decoder_have_its_mask() -> None:
    """Also if both stacks read equally many tokens, or where a module of the decoder reads the encoder's."""
    batch = {"attention_mask": torch.ones(2, 5), "decoder_attention_mask": torch.zeros(2, 5)}
    assert token_mask(batch, "model.decoder.layers.0", (2, 5, 8)) is batch["decoder_attention_mask"]
    assert token_mask(batch, "encoder.block.0", (2, 5, 8)) is batch["attention_mask"]
    shorter = batch | {"decoder_attention_mask": torch.zeros(2, 3)}
    assert token_mask(shorter, "decoder.block.0", (2, 5, 8)) is batch["attention_mask"]
    assert token_mask(shorter, "decoder.block.0", (2, 4, 8)) is None
    assert token_mask({}, "decoder.block.0", (2, 4, 8)) is None


def test_padding_of_texts_is_not_that_of_images_or_of_the_other_stack() -> None:
    """Though there may be as many tokens of both."""
    batch = {"attention_mask": torch.ones(2, 5), "decoder_attention_mask": torch.ones(2, 5)}
    assert token_mask(batch, "vision_model.encoder.layers.0", (2, 5, 8)) is None
    assert token_mask(batch, "text_model.encoder.layers.0", (2, 5, 8)) is batch["attention_mask"]
    for name in ("decoder.block.0.layer.1.EncDecAttention.k", "model.decoder.layers.0.encoder_attn.v_proj"):
        assert token_mask(batch, name, (2, 5, 8)) is batch["attention_mask"]
    for name in ("decoder.block.0.layer.1.EncDecAttention.q", "model.decoder.layers.0.self_attn.v_proj"):
        assert token_mask(batch, name, (2, 5, 8)) is batch["decoder_attention_mask"]


def test_rows_without_padding_belong_to_the_tokens_of_a_mask() -> None:
    """The mask is the decoder's, or the encoder's where a module of the decoder reads that."""
    batch = {
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
        "decoder_attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]]),
    }
    samples, positions = row_positions(torch.zeros(3, 8), batch, "decoder.block.0.layer.0.SelfAttention.q")
    assert (samples.tolist(), positions.tolist()) == ([0, 0, 1], [0, 1, 0])
    samples, positions = row_positions(torch.zeros(7, 8), batch, "decoder.block.0.layer.1.EncDecAttention.k")
    assert (samples.tolist(), positions.tolist()) == ([0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 0, 1, 2, 3])
    samples, positions = row_positions(torch.zeros(2, 2, 8), batch, "encoder.block.0")
    assert (samples.tolist(), positions.tolist()) == ([0, 0, 1, 1], [0, 1, 0, 1])


@pytest.mark.parametrize("length", [7, 9], ids=["as long as the source", "longer"])
def test_padding_of_a_decoder_teaches_nothing(length: int) -> None:
    case = next(case for case in CASES if case.name == "T5ForConditionalGeneration")
    parents, fused = [case.build(1), case.build(2)], case.build(3)
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randint(2, 31, (3, tokens), generator=generator) for tokens in (7, length))
    mask = torch.ones_like(target)
    mask[:, 4:] = 0
    batch = {
        "input_ids": source, "attention_mask": torch.ones_like(source), "decoder_input_ids": target,
        "decoder_attention_mask": mask, "labels": target.masked_fill(mask == 0, -100),
    }  # fmt: skip
    other = batch | {"decoder_input_ids": target.masked_fill(mask == 0, 1)}
    options = LearningOptions(steps=1)
    loop = WeightDistillation(fused, parents, [0.5, 0.5], ([batch], [batch]), options, uniform, (), 0)
    assert any("decoder" in name for name in loop.matched_names)
    with torch.no_grad():
        torch.testing.assert_close(loop.loss(batch), loop.loss(other))
