"""Tiny random networks of every family; a new family joins all proofs with one line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

from transfuse.batch import cast
from transfuse.network.families import declare
from transfuse.network.layout import close_tensors
from transfuse.network.model import example_inputs
from transfuse.network.spec import Spec


@dataclass(frozen=True)
class Case:
    """A family: how to build it, how to double it, and tensors that provably do nothing."""

    name: str
    architecture: type[PreTrainedModel]
    config: type
    sizes: Mapping[str, Any]
    double: tuple[str, ...]  # configuration entries that double when every width does
    inert: tuple[str, ...] = ()  # keys' biases add a constant to every score of a query: softmax drops it
    inputs: Callable[..., dict[str, Tensor]] = field(default=example_inputs)

    def build(self, seed: int = 0, **changes: Any) -> PreTrainedModel:
        """A float64 model with gains and biases away from their initial values."""
        torch.manual_seed(seed)
        model = self.architecture(self.config(**{**self.sizes, **changes})).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model

    def spec(self, model: PreTrainedModel) -> Spec:
        return declare(model.config, type(model).__name__)

    @torch.no_grad()
    def logits(self, model: PreTrainedModel, tensors: Mapping[str, Tensor] | None = None) -> Tensor:
        if tensors is not None:
            model.load_state_dict(close_tensors(self.spec(model), tensors))
        return model(**cast(self.inputs(model.config), torch.float64)).logits


VIT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 37, "image_size": 12,
    "patch_size": 4, "num_channels": 2, "num_labels": 5, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
WIDTHS = ("hidden_size", "num_attention_heads", "intermediate_size")
K_BIAS = ("k_proj.bias",)
BERT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 37, "vocab_size": 31,
    "max_position_embeddings": 12, "num_labels": 5, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
BERT_K = ("key.bias",)

CASES = [
    Case("vit", ViTForImageClassification, ViTConfig, VIT, WIDTHS, K_BIAS),
    Case("vit-no-qkv-bias", ViTForImageClassification, ViTConfig, VIT | {"qkv_bias": False}, WIDTHS),
    Case("bert-mlm", BertForMaskedLM, BertConfig, BERT, WIDTHS, BERT_K),
    Case("bert-mlm-untied", BertForMaskedLM, BertConfig, BERT | {"tie_word_embeddings": False}, WIDTHS, BERT_K),
    Case("bert-classifier", BertForSequenceClassification, BertConfig, BERT, WIDTHS, BERT_K),
]
