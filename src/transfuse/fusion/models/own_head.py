"""Sources whose head is their embeddings, beside an anchor whose head has weights of its own: give them a copy."""

import copy

from torch import nn
from transformers import PreTrainedModel

from transfuse.network.reconfigured import with_config

HEADS = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "BertForPreTraining")  # of models with one table of embeddings


def with_own_head(source: PreTrainedModel, anchor: PreTrainedModel) -> PreTrainedModel:
    """Return the source with a head that is a copy of its embeddings, if the anchor's head is not tied; else as it is.

    It computes the same.

    Args:
        source: its tensors may be empty, and are then empty in the result.
    """
    if not needs_own_head(source, anchor):
        return source
    config = copy.deepcopy(source.config)
    config.tie_word_embeddings = False
    untied = with_config(source, config)
    head = untied.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    return untied


def needs_own_head(source: PreTrainedModel, anchor: PreTrainedModel) -> bool:
    """Return whether the head of the source is its embeddings, and that of the anchor is not."""
    tied, other = (getattr(model.config, "tie_word_embeddings", None) for model in (source, anchor))
    return bool(tied) and other is False and type(source).__name__.endswith(HEADS) and type(source) is type(anchor)
