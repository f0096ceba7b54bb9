"""What ESM has beside its outputs: contacts, predicted from the attention of all heads."""

import pytest
import torch
from cases import CASES
from transformers import EsmConfig

from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.errors import SpecError
from transfuse.network.families import declare
from transfuse.network.layout import join_fused, split_fused, unfused
from transfuse.network.symmetry import fold, symmetric
from transfuse.shrinking.blocks import why_not_removable

ESM = next(case for case in CASES if case.name == "EsmForMaskedLM")
TOKENS = torch.tensor([[0, 5, 6, 7, 8, 9, 2], [0, 9, 8, 4, 6, 5, 2]])


def contacts(model: torch.nn.Module) -> torch.Tensor:
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model.predict_contacts(TOKENS, torch.ones_like(TOKENS))


def test_contacts_follow_their_heads() -> None:
    model = ESM.build(0)
    spec = symmetric(unfused(ESM.spec(model)))
    tensors = dict(fold(spec, dict(split_fused(ESM.spec(model), model.state_dict()))))
    moved = transform_all(spec, tensors, random_alignment(spec, 1))
    other = ESM.build(1)
    other.load_state_dict(join_fused(ESM.spec(other), moved))
    assert contacts(other).shape == (2, 5, 5)
    assert torch.allclose(contacts(other), contacts(model), atol=1e-5)
    assert not torch.allclose(contacts(ESM.build(1)), contacts(model), atol=1e-2)


def test_no_block_can_be_removed() -> None:
    assert why_not_removable(ESM.build(0), 2) == "esm.contact_head.regression reads every block"


def test_folding_models_are_refused() -> None:
    config = EsmConfig(vocab_size=33, mask_token_id=32, pad_token_id=1, is_folding_model=True)
    with pytest.raises(SpecError, match=r"esm: models whose config.json has is_folding_model: true are not supported"):
        declare(config, "EsmForMaskedLM")
