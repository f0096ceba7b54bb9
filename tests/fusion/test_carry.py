"""A fine-tune is carried to another base: exactly where the new base is a symmetric copy, and better than by addition."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, Case
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedModel,
    ViTForImageClassification,
)

import transfuse
from transfuse.alignment.exact.groups import random_alignment
from transfuse.alignment.transform import transform_all
from transfuse.errors import ConfigError
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import declaration, network, with_tensors
from transfuse.network.symmetry import fold, symmetric


def tuned_copy(model: PreTrainedModel, size: float = 0.03, seed: int = 5) -> PreTrainedModel:
    """A model whose every tensor moved a little, as after fine-tuning."""
    generator = torch.Generator().manual_seed(seed)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(size * noise * parameter.square().mean().sqrt())
    return twin.eval()


def moved(model: PreTrainedModel, seed: int = 3) -> PreTrainedModel:
    """The same function in another basis: a random element of every exact group."""
    spec = symmetric(unfused(declaration(model)))
    tensors = dict(fold(spec, dict(split_fused(declaration(model), model.state_dict()))))
    return with_tensors(model, transform_all(spec, tensors, random_alignment(spec, seed)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_to_a_symmetric_copy_it_is_exact(case: Case) -> None:
    base = case.build()
    tuned = tuned_copy(base)
    new_base = moved(base)
    carried = transfuse.carry(base, tuned, new_base).model
    expected, before = case.logits(tuned), case.logits(base)
    change = (expected - before).abs().max()
    assert (case.logits(carried) - expected).abs().max() < 1e-3 * change + 1e-5 * expected.abs().max()
