"""Blocks that stay keep their settings, and take only places whose tensors they have."""

from typing import Any

import pytest
import torch
from cases import CASES, Case
from torch import Tensor, nn

from transfuse.activations.execution_order import block_stack
from transfuse.base.batch import cast
from transfuse.errors import SpecError
from transfuse.network.sizes import Sizes, resized
from transfuse.shrinking.blocks import Blocks
from transfuse.shrinking.depth import choose_blocks, only_blocks

by_name = {case.name: case for case in CASES}
KINDS = ["full_attention", "sliding_attention", "sliding_attention"]
LAYERED: dict[str, dict[str, Any]] = {
    "Gemma2ForCausalLM": {}, "Gemma3ForCausalLM": {}, "Cohere2ForCausalLM": {}, "GptOssForCausalLM": {},
    "SmolLM3ForCausalLM": {"no_rope_layers": [0, 1, 1], "use_sliding_window": True},
    "Qwen3ForCausalLM": {"use_sliding_window": True},
}  # fmt: skip


def batches(case: Case) -> list[dict[str, Tensor]]:
    return [cast(case.inputs(case.configure(), seed), torch.float64) for seed in range(3)]


def silence(*linears: nn.Linear) -> None:
    for linear in linears:
        nn.init.zeros_(linear.weight)


@pytest.mark.parametrize("name", LAYERED)
def test_each_block_runs_with_its_own_settings(name: str) -> None:
    case, kept = by_name[name], (1, 2)
    settings = {"num_hidden_layers": 3, "layer_types": KINDS, "sliding_window": 2, **LAYERED[name]}
    model = case.build(1, **settings)
    before = model.config.to_dict()
    small = type(model)(resized(model.config, Sizes(layers=2), kept)).double().eval()
    stack, depth = block_stack(model, 3)
    blocks, tensors = Blocks(stack, depth, kept), model.state_dict()
    small.load_state_dict({key: tensors[blocks.large_name(key)] for key in small.state_dict()})
    with only_blocks(model, stack, kept):
        found = case.logits(model)
    torch.testing.assert_close(found, case.logits(small))
    assert model.config.to_dict() == before


def test_a_block_takes_no_place_with_other_tensors() -> None:
    """Only the first block of a ModernBERT has no norm in front of its attention."""
    case = by_name["ModernBertForMaskedLM"]
    model = case.build(1, num_hidden_layers=3)
    silence(model.model.layers[0].attn.Wo, model.model.layers[0].mlp.Wo)
    assert choose_blocks(model, "model.layers", 2, batches(case)).kept[0] == 0
    with pytest.raises(SpecError, match=r"^ModernBertForMaskedLM: .* no 2 of them can take .*; leave out layers"):
        choose_blocks(model, "model.layers", 2, batches(case), allowed=lambda kept: 0 not in kept)


def test_dense_blocks_stay_where_the_configuration_wants_them() -> None:
    case = by_name["Qwen3MoeForCausalLM"]
    model = case.build(1, num_hidden_layers=4, decoder_sparse_step=2)  # every second block has experts
    for block in (0, 2):
        silence(model.model.layers[block].self_attn.o_proj, model.model.layers[block].mlp.down_proj)
    assert choose_blocks(model, "model.layers", 2, batches(case)).kept in {(0, 1), (0, 3), (2, 3)}
