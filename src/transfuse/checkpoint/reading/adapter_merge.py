"""Merge an adapter into its loaded base model, so that the result computes what the model with the adapter computes.

PEFT merges into the tensors of the base. Where two layers share a tensor, such as tied embeddings or replicated blocks,
and only one of them is adapted, that would change the other one too.
"""

import copy
import importlib
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from transfuse.base.libraries import quiet
from transfuse.checkpoint.reading.ties import with_separate_tensors
from transfuse.errors import CheckpointError, first_line


def merge(
    model: PreTrainedModel, folder: Path, settings: Mapping[str, Any], names: set[str], shown: str
) -> PreTrainedModel:
    """Return the base model with the adapter merged into it.

    Args:
        settings: the content of adapter_config.json.
        names: names of the tensors in the adapter's file.
        shown: what to call the adapter in messages.

    Raises:
        CheckpointError: the adapter cannot be merged, or it does not fit the base.
    """
    peft = importlib.import_module("peft")
    kind = f"adapter of peft_type {settings.get('peft_type')!s:.40}"
    tied = getattr(model.config, "tie_word_embeddings", None)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message=".*missing adapter keys")
            adapted = peft.PeftModel.from_pretrained(model, str(folder), torch_device="cpu")
            if adapted.active_peft_config.is_prompt_learning:
                raise ValueError("it adds to the inputs and changes no weights; give another kind, such as LoRA")
            known = peft.get_peft_model_state_dict(adapted, save_embedding_layers=True)
            if unknown := sorted(names - known.keys()):
                raise ValueError(f"the base model has no place for {unknown[0]}")
            _separate_adapted_layers(adapted)
            merged = adapted.merge_and_unload()
    except Exception as error:  # peft and the files of an adapter can cause any error
        raise CheckpointError(f"{shown}: peft cannot merge this {kind} into its base ({first_line(error)})") from error
    assert isinstance(merged, PreTrainedModel)
    if tied is not None:
        merged.config.tie_word_embeddings = tied  # peft may have set it to False, and left other parameters tied
    return with_separate_tensors(merged)


def _separate_adapted_layers(adapted: nn.Module) -> None:
    """Give each adapted layer that shares a tensor with another layer tensors of its own."""
    uses = Counter(id(parameter) for _, parameter in adapted.named_parameters(remove_duplicate=False))
    for module in list(adapted.modules()):
        layer = getattr(module, "base_layer", None)
        if isinstance(layer, nn.Module) and any(uses[id(own)] > 1 for own in layer.parameters(recurse=False)):
            module.base_layer = copy.deepcopy(layer)
