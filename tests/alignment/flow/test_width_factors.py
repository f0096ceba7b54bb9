"""The flow where the width itself enters the function: roots of the width and of the size of a head."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from cases import CASES, Case
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.alignment.interface import AlignContext
from transfuse.alignment.methods import ALIGNMENT_METHODS
from transfuse.base.batch import cast
from transfuse.config.flow_options import FlowOptions
from transfuse.network.model import network, with_tensors

CPU = torch.device("cpu")
ROOT = 2**0.5
Tensors = dict[str, Tensor]


def gemma(tensors: Tensors) -> None:
    """Undo the root of the doubled width, and let the tied head read half of twice as many units."""
    tensors["model.embed_tokens.weight"].div_(ROOT)
    tensors["model.norm.weight"].add_(1).mul_(ROOT / 2).sub_(1)


def t5(tensors: Tensors) -> None:
    tensors["decoder.final_layer_norm.weight"].mul_(ROOT / 2)


def mbart(tensors: Tensors) -> None:
    tensors["model.shared.weight"].div_(ROOT)
    for name in ("weight", "bias"):
        tensors[f"model.decoder.layer_norm.{name}"].mul_(ROOT / 2)
    heads(tensors)


def heads(tensors: Tensors) -> None:
    """Halve the sum over twice as many channels, and undo the root of their doubled number."""
    for name, values in tensors.items():
        if ".key." in name or ".k_proj." in name:
            values.div_(ROOT)


def doubled(case: Case, source: PreTrainedModel, sizes: dict[str, int], correct: Callable[[Tensors], None]):
    """A model that computes the same with every unit twice."""
    wide = case.build(1, **sizes)
    small = dict(source.named_parameters())
    tensors = dict(wide.named_parameters())
    with torch.no_grad():
        for name, target in tensors.items():
            values = small[name]
            is_table = target.ndim == 2 and ("embed" in name or "shared" in name)
            for dim, size in enumerate(target.shape):
                if size != values.shape[dim]:
                    values = values.repeat_interleave(2, dim)
                    values = values / 2 if dim == 1 and not is_table else values
            target.copy_(values)
        correct(tensors)
    return wide


FAMILIES = {
    "GemmaForCausalLM": ({"hidden_size": 36, "intermediate_size": 26}, gemma),
    "T5ForConditionalGeneration": ({"d_model": 48, "d_ff": 74}, t5),
    "MBartForConditionalGeneration": ({"d_model": 36, "encoder_ffn_dim": 74, "decoder_ffn_dim": 58}, mbart),
    "BertForSequenceClassification": ({"hidden_size": 48, "intermediate_size": 74}, heads),
}


@pytest.mark.parametrize("evidence", ["activations", "weights"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_keeps_its_function_in_its_own_double(name: str, evidence: str) -> None:
    sizes, correct = FAMILIES[name]
    case = next(case for case in CASES if case.architecture.__name__ == name)
    if "encoder_ffn_dim" in sizes:
        case = replace(case, sizes={**case.sizes, "scale_embedding": True})
    source = case.build(1)
    reference = case.logits(source)
    wide = doubled(case, source, sizes, correct)
    torch.testing.assert_close(case.logits(wide), reference, atol=1e-6, rtol=1e-6)
    batches = [cast(case.inputs(case.configure(), seed), torch.float64) for seed in range(30)]
    anchor, own = network(wide, CPU), network(source, CPU)
    context = AlignContext(evidence, batches, FlowOptions(plan="hard"))
    widened = ALIGNMENT_METHODS["flow"](anchor, own, context).carried
    torch.testing.assert_close(case.logits(with_tensors(wide, widened)), reference, atol=1e-4, rtol=1e-4)
