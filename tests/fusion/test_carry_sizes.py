"""A fine-tune is carried to a base of another size."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, LLAMA
from languages import TEXTS, llama, saved
from transformers import LlamaConfig, LlamaForCausalLM

import transfuse
from transfuse.fusion.sizes.anchor_sizes import with_anchor_sizes
from transfuse.network.inputs import example_inputs


def test_a_family_whose_blocks_stand_in_no_list() -> None:
    case = next(case for case in CASES if case.name == "AlbertForMaskedLM")
    base, tuned = case.build(1), case.build(1)
    new_base = case.build(2, intermediate_size=2 * base.config.intermediate_size)
    with torch.no_grad():
        tuned.predictions.bias.add_(1)
    carried = transfuse.carry(base, tuned, new_base).model
    assert carried.config.intermediate_size == new_base.config.intermediate_size
    torch.testing.assert_close(carried.predictions.bias, new_base.predictions.bias + 1)


@pytest.mark.parametrize("depth", [3, 4])
def test_a_block_that_wrote_zeros_until_it_was_tuned(depth: int) -> None:
    """As in LLaMA Pro (2401.02415), which adds blocks that do nothing and trains them."""
    torch.manual_seed(1)
    base = LlamaForCausalLM(LlamaConfig(**LLAMA | {"num_hidden_layers": 3, "initializer_range": 0.2})).eval()
    added = base.model.layers[1]
    with torch.no_grad():
        added.self_attn.o_proj.weight.zero_()
        added.mlp.down_proj.weight.zero_()
    tuned = copy.deepcopy(base)
    with torch.no_grad():
        for values in tuned.model.layers[1].parameters():
            values.add_(0.1 * torch.randn_like(values))
    larger = LlamaForCausalLM(LlamaConfig(**LLAMA | {"num_hidden_layers": depth, "intermediate_size": 40}))
    _, new_base = with_anchor_sizes([larger, base], ["", ""])
    carried = transfuse.carry(base, tuned, new_base).model
    inputs = example_inputs(base.config)
    expected = tuned(**inputs).logits.detach()
    torch.testing.assert_close(carried(**inputs).logits, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("heads", [{"head_dim": 8}, {"num_key_value_heads": 6}, {"num_attention_heads": 3}], ids=str)
def test_a_narrower_new_base_may_have_other_heads(tmp_path: Path, heads: dict[str, int]) -> None:
    base = saved(tmp_path / "base", llama, 1)
    tuned = LlamaForCausalLM.from_pretrained(base)
    with torch.no_grad():
        tuned.lm_head.weight.add_(0.1 * torch.randn_like(tuned.lm_head.weight) * tuned.lm_head.weight.std())
    new_base = saved(tmp_path / "new", partial(llama, intermediate_size=20, **heads), 2)
    given: dict[str, Any] = {"samples": 8, "steps": 1}
    fusion = transfuse.carry(base, tuned, new_base, TEXTS, processor=base, **given)
    assert fusion.options.align == "none"
    assert {name: getattr(fusion.model.config, name) for name in heads} == heads
