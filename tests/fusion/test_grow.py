"""A fusion that grows has the units of both parents side by side, and is one ordinary checkpoint."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cases import CASES, Case
from languages import TEXTS, gpt2, llama, saved
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import transfuse
from transfuse.alignment.interface import AlignContext, aligned_weights
from transfuse.base.batch import cast
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.errors import ConfigError, TransfuseError
from transfuse.fusion.grow import growth, growth_plan, shortfall
from transfuse.fusion.match import align
from transfuse.merging.methods import MERGE_METHODS, MergeRequest
from transfuse.network.model import network
from transfuse.network.sizes import sizes_of

CPU = torch.device("cpu")
FAMILIES = (
    "ViTForImageClassification",
    "BertForMaskedLM",
    "GPT2LMHeadModel-tie_word_embeddings",
    "LlamaForCausalLM",
    "Qwen2ForCausalLM",
    "Phi3ForCausalLM",
    "GPTNeoXForCausalLM",
)
by_name = {case.name: case for case in CASES}


def grown(case: Case, models: Sequence[PreTrainedModel], ratio: float) -> PreTrainedModel:
    """The fusion in closed form."""
    networks = [network(model, CPU) for model in models]
    weights = [1 / len(models)] * len(models)
    alignments, _ = align(networks, weights, AlignContext("weights"), make(Options, {}))
    batches = [cast(case.inputs(case.configure(), seed), torch.float64) for seed in range(40)]
    shapes = growth(networks[0].model, growth_plan(networks[0].model, len(models), ratio))
    request = MergeRequest(networks[0], aligned_weights(alignments), weights, batches, growth=shapes)
    merged = MERGE_METHODS["least-squares"](request)
    assert isinstance(merged, PreTrainedModel)
    return merged


def close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    return float((found - expected).abs().max()) < tolerance * float(expected.abs().max())


@pytest.mark.parametrize("ratio", [1.15, 2.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_growing_with_a_copy_keeps_the_function(name: str, ratio: float) -> None:
    case = by_name[name]
    model = case.build(1)
    result = grown(case, [model, case.build(1)], ratio)
    assert 1.05 * model.num_parameters() < result.num_parameters() <= ratio * model.num_parameters()
    assert close(case.logits(result), case.logits(model), 1e-4 if ratio < 2 else 1e-9)
