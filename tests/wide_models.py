"""Models whose widths change in tests, and their sizes."""

from dataclasses import replace
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from transfuse.network.sizes import Sizes, heads_make_width, sizes_of

NEOX = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
}


def with_gains(model: PreTrainedModel) -> PreTrainedModel:
    """Make the gains and biases of all norms differ."""
    generator = torch.Generator().manual_seed(5)
    for values in model.parameters():
        if values.ndim == 1:
            values.data += 0.3 * torch.rand(values.shape, generator=generator, dtype=values.dtype)
    return model


def doubled(config: Any) -> Sizes:
    """Sizes with twice the channels of each head."""
    own = sizes_of(config)
    assert own.head_size
    assert own.hidden_size
    width = 2 * own.hidden_size if heads_make_width(config) else own.hidden_size
    return replace(own, head_size=2 * own.head_size, hidden_size=width)


def neox(words: int, width: int) -> PreTrainedModel:
    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=words, **(NEOX | {"hidden_size": width})))
