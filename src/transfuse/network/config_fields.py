"""Differences between two configurations: those that change the forward pass, and those that change tensor shapes."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from transformers import PreTrainedConfig

from transfuse.errors import TransfuseError
from transfuse.network.families import declare
from transfuse.network.families.parts import declared_setting
from transfuse.network.field_roles import (
    UNDECLARED_DEFAULTS,
    affects_output,
    is_reviewed,
    known_fields,
)
from transfuse.network.rotary_fields import reads_length, rotary
from transfuse.network.spec import Spec
from transfuse.network.token_ids import TOKEN_IDS_READ

PAIRS = ("image_size", "patch_size")  # one number stands for height and width
UNORDERED = ("pos_att_type",)  # lists in any order
SYNONYMS = {  # other names of an activation
    "swish": "silu",
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate", "gelu_fast"), "gelu_new"),
}


@dataclass(frozen=True)
class FieldDifference:
    """A field that differs, with its path in config.json and its value in each configuration."""

    path: str
    anchor: Any
    source: Any


def differences(
    anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str | None = None
) -> Iterator[FieldDifference]:
    """Yield every field that changes the forward pass and differs, including those of nested configurations.

    Args:
        architecture: the class of both models; None: the class that the first configuration names.
    """
    architecture = architecture or next(iter(anchor.architectures or ()), None)
    yield from _differences(anchor, source, architecture, is_reviewed(anchor, architecture), "")


def shape_differences(
    anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str, measure: Callable[[Spec], object]
) -> list[FieldDifference]:
    """Return the fields that explain why the two declarations differ in `measure`.

    A field is returned if `measure` changes when the anchor's configuration takes the source's value of that field
    alone.
    """
    return [
        difference
        for difference in _plain_differences(anchor, source, "")
        if _changes(anchor, architecture, difference.path, difference.source, measure)
    ]


def _differences(
    anchor: PreTrainedConfig, source: PreTrainedConfig, architecture: str | None, reviewed: bool, prefix: str
) -> Iterator[FieldDifference]:
    anchor_fields = anchor.to_dict()
    source_fields = source.to_dict()
    names = anchor_fields.keys() | source_fields.keys()
    for name in sorted(names & known_fields(anchor) if reviewed else names):
        anchor_part = getattr(anchor, name, None)
        source_part = getattr(source, name, None)
        if isinstance(anchor_part, PreTrainedConfig) and isinstance(source_part, PreTrainedConfig):
            yield from _differences(anchor_part, source_part, architecture, reviewed, f"{prefix}{name}.")
            continue
        default = UNDECLARED_DEFAULTS.get(name) if reviewed else None
        values = (anchor_fields.get(name, default), source_fields.get(name, default))
        if _equal(name, *values, reviewed) or not affects_output(name, anchor, architecture, reviewed):
            continue
        if not _checked_elsewhere(name, (anchor, source), values, architecture, reviewed):
            yield FieldDifference(f"{prefix}{name}", *values)
    yield from _rotary_differences(anchor, source, reviewed, prefix)


def _checked_elsewhere(
    name: str,
    configs: tuple[PreTrainedConfig, PreTrainedConfig],
    values: tuple[Any, Any],
    architecture: str | None,
    reviewed: bool,
) -> bool:
    """Return whether a difference in this field is harmless here, or is reported by the comparison of tensors."""
    anchor = configs[0]
    if name in ("layer_types", "no_rope_layers", "attention_layers") and len(values[0] or ()) != len(values[1] or ()):
        return True  # the depths differ
    if name == "pad_token_id" and None in values and anchor.model_type not in TOKEN_IDS_READ:
        return True  # a classifier without a padding token takes the other's
    if name == "sliding_window" and not any("sliding" in kind for config in configs for kind in _attention(config)):
        return True  # no layer of either model has a window
    may_be_size = name == "image_size" or not reviewed
    are_integers = all(type(value) is int for value in (values[1], getattr(anchor, name, None)))
    return may_be_size and are_integers and _changes(anchor, architecture or "", name, values[1], Spec.tensors)


def _attention(config: PreTrainedConfig) -> list[str]:
    """Return the kinds of attention of the layers; if the class of the configuration declares none, assume windows."""
    return list(declared_setting(config, "layer_types") or ["sliding"])


def _plain_differences(anchor: PreTrainedConfig, source: PreTrainedConfig, prefix: str) -> Iterator[FieldDifference]:
    """Yield every field that differs, whatever its role, and the number of labels instead of their names."""
    anchor_fields = anchor.to_dict() | {"num_labels": anchor.num_labels}
    source_fields = source.to_dict() | {"num_labels": source.num_labels}
    for name in sorted((anchor_fields.keys() | source_fields.keys()) - {"id2label", "label2id"}):
        anchor_part = getattr(anchor, name, None)
        source_part = getattr(source, name, None)
        if isinstance(anchor_part, PreTrainedConfig) and isinstance(source_part, PreTrainedConfig):
            yield from _plain_differences(anchor_part, source_part, f"{prefix}{name}.")
        elif not _equal(name, anchor_fields.get(name), source_fields.get(name), reviewed=True):
            yield FieldDifference(f"{prefix}{name}", anchor_fields.get(name), source_fields.get(name))


def _changes(
    config: PreTrainedConfig, architecture: str, path: str, value: object, measure: Callable[[Spec], object]
) -> bool:
    """Return whether another value of one field changes `measure` of the declaration; False if that fails."""
    changed = copy.deepcopy(config)
    *parents, name = path.split(".")
    try:
        setattr(reduce(getattr, parents, changed), name, value)
        return measure(declare(changed, architecture)) != measure(declare(config, architecture))
    except (TransfuseError, AttributeError, LookupError, TypeError, ValueError):
        return False


def _rotary_differences(
    anchor: PreTrainedConfig, source: PreTrainedConfig, reviewed: bool, prefix: str
) -> Iterator[FieldDifference]:
    """Yield the settings of rotary positions that differ, in one spelling."""
    anchor_settings = rotary(anchor, reviewed)
    source_settings = rotary(source, reviewed)
    names = anchor_settings.keys() | source_settings.keys()
    for name in sorted(names, key=lambda name: (not name.endswith("rope_type"), name)):
        values = (anchor_settings.get(name), source_settings.get(name))
        if values[0] != values[1]:
            yield FieldDifference(f"{prefix}rope_parameters.{name}", *values)
    lengths = [getattr(config, "max_position_embeddings", None) for config in (anchor, source)]
    if lengths[0] != lengths[1] and (reads_length(anchor_settings) or reads_length(source_settings)):
        yield FieldDifference(f"{prefix}max_position_embeddings", *lengths)


def _equal(name: str, anchor: object, source: object, reviewed: bool) -> bool:
    """Return whether two values mean the same; the reviewed classes of transformers treat null as false."""
    both_off = all(value is None or value is False for value in (anchor, source))
    return (both_off and reviewed) or _normalized(name, anchor) == _normalized(name, source)


def _normalized(name: str, value: object) -> object:
    """Return a value in the spelling that all equal values share."""
    if isinstance(value, str):
        return SYNONYMS.get(value, value)
    if name in PAIRS and isinstance(value, int):
        return [value, value]
    if isinstance(value, list | tuple):
        items = [_normalized("", item) for item in value]
        return sorted(items, key=str) if name in UNORDERED else items
    if isinstance(value, Mapping):
        return {str(key): _normalized("", item) for key, item in value.items() if item is not None}
    return value
