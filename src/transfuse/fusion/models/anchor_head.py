"""Sources with another head, or without one: give them the anchor's class, and keep the head of the anchor.

The trunk is what `base_model` names. Other tensors of the source's new class have no counterpart in the source. They
are small random numbers while units are matched, so that they say nothing about the units. Afterward, they are the
anchor's.
"""

import copy
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.alignment.interface import Alignment
from transfuse.errors import ConfigError
from transfuse.network.field_roles import fields_of_head
from transfuse.network.layout import stored_names
from transfuse.network.model import declaration

HEAD_FIELDS = ("architectures", "id2label", "label2id", "num_labels", "problem_type", "tie_word_embeddings")
SCALE = 1e-6  # of a head that the source does not have; weights of trained models are some 1e-2 and larger


def is_convertible(source: PreTrainedModel, anchor: PreTrainedModel) -> bool:
    """Return whether two models have the same trunk, perhaps below different heads."""
    return type(source.base_model) is type(anchor.base_model)


def with_anchor_class(source: PreTrainedModel, anchor: PreTrainedModel, name: str) -> PreTrainedModel:
    """Return the source as a model of the anchor's class, with its own trunk and a head of small random numbers.

    Args:
        source: its tensors may be empty, and are then empty in the result.
        name: what to call the source in messages.

    Raises:
        ConfigError: the models have different trunks.
    """
    if not is_convertible(source, anchor):
        raise ConfigError(
            f"{name}: is a {type(source).__name__}, but the anchor is a {type(anchor).__name__}; --head anchor needs"
            f" models whose base_model in transformers is of one class, not a {type(source.base_model).__name__} and a"
            f" {type(anchor.base_model).__name__}"
        )
    is_empty = source.device.type == "meta"
    with init_empty_weights(include_buffers=False) if is_empty else nullcontext():
        converted = type(anchor)(_with_head_fields(source, anchor)).to(source.dtype).eval()
    if is_empty:
        return converted
    trunk = dict(source.base_model.named_parameters(remove_duplicate=False))
    names = _trunk_names(converted)
    values = {
        stored: trunk[names[stored]] if names.get(stored) in trunk else _noise(stored, parameter)
        for stored, parameter in converted.named_parameters(remove_duplicate=False)
    }
    converted.load_state_dict(values, strict=False)  # all but the buffers, which are constants
    return converted.to(source.device)


def borrowed_tensors(source: PreTrainedModel, anchor: PreTrainedModel) -> frozenset[str]:
    """Return the names, unfused, of the tensors that a source of any class takes from the anchor."""
    trunk = {name for name, _ in source.base_model.named_parameters(remove_duplicate=False)}
    own = {name for name, in_trunk in _trunk_names(anchor).items() if in_trunk in trunk}
    return frozenset(name for name, stored in stored_names(declaration(anchor)).items() if stored not in own)


def with_anchor_head(alignment: Alignment, borrowed: frozenset[str]) -> Alignment:
    """Return an alignment in which the tensors of these names are the anchor's in both models."""
    own: Mapping[str, Tensor] = {name: alignment.anchor[name] for name in borrowed}
    return replace(alignment, carried={**alignment.carried, **own}) if borrowed else alignment


def borrowed_maps(anchor: PreTrainedModel, borrowed: frozenset[str]) -> set[str]:
    """Return the names of the linear maps among these tensors."""
    return {op.name for op in declaration(anchor).linears() if not borrowed.isdisjoint(op.tensors())}


def _with_head_fields(source: PreTrainedModel, anchor: PreTrainedModel) -> PreTrainedConfig:
    """Return the source's configuration with the anchor's head."""
    config = copy.deepcopy(source.config)
    for field in (*HEAD_FIELDS, *(fields_of_head(config) if borrowed_tensors(source, anchor) else ())):
        if hasattr(anchor.config, field) and _exists(field, anchor.config, config):
            setattr(config, field, copy.deepcopy(getattr(anchor.config, field)))
    return config


def _exists(field: str, anchor: PreTrainedConfig, source: PreTrainedConfig) -> bool:
    """Return whether the anchor's value is possible; its padding token may be none of the source's vocabulary."""
    return field != "pad_token_id" or (anchor.pad_token_id or 0) < source.vocab_size


def _trunk_names(model: PreTrainedModel) -> dict[str, str]:
    """Return the name in `base_model` of every parameter that is in it or tied to one that is."""
    names = {id(values): name for name, values in model.base_model.named_parameters(remove_duplicate=False)}
    stored = model.named_parameters(remove_duplicate=False)
    return {name: names[id(values)] for name, values in stored if id(values) in names}


def _noise(name: str, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return SCALE * torch.randn(like.shape, generator=generator).to(like)
