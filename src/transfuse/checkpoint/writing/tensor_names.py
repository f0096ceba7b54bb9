"""The names of tensors in files; a fused model keeps the names in its anchor's files if transformers renamed them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from transfuse.base.unique_json import read_json
from transfuse.checkpoint.reading.companions import SAFETENSORS_NAMES
from transfuse.checkpoint.reading.files import stored_dtypes, weight_files
from transfuse.network.layout import stored_names
from transfuse.network.model import declaration

NUMBER = re.compile(r"\.\d+\.")  # of a block or an expert
OLD_SUFFIXES = {".weight": ".gamma", ".bias": ".beta"}  # TensorFlow's names of a norm's gain and bias


def keep_tensor_names(folder: Path, anchor: Path, prefix: str) -> None:
    """Rename the tensors saved in `folder` to the names in `anchor`, which from_pretrained loads as well.

    Args:
        prefix: prefix of all names except a head's; the earliest checkpoints lack it.
    """
    anchor_names = {name for file in weight_files(anchor, "allow") for name in stored_dtypes(file)}
    renamed: dict[str, str] = {}
    for file in weight_files(folder):
        new_names = {name: old for name in stored_dtypes(file) if (old := _old_name(name, anchor_names, prefix))}
        if new_names:
            tensors = {new_names.get(name, name): values for name, values in load_file(file).items()}
            save_file(tensors, file, {"format": "pt"})
        renamed |= new_names
    index = folder / SAFETENSORS_NAMES[1]
    if renamed and index.exists():
        document = read_json(index)
        document["weight_map"] = {renamed.get(name, name): file for name, file in document["weight_map"].items()}
        index.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _old_name(name: str, anchor_names: set[str], prefix: str) -> str | None:
    """Return the name of a tensor in the anchor's files, if it differs from `name`."""
    if name in anchor_names:
        return None
    bare = name.removeprefix(f"{prefix}.")
    suffixed = [
        candidate.removesuffix(new) + old
        for candidate in (name, bare)
        for new, old in OLD_SUFFIXES.items()
        if candidate.endswith(new)
    ]
    return next((candidate for candidate in (bare, *suffixed) if candidate in anchor_names), None)


@dataclass(frozen=True)
class TensorNames:
    """The names of an unfused tensor.

    Attributes:
        in_model: its own, and the name of the tensor that it is a part of.
        in_files: the names of the tensors that hold its values in a checkpoint, such as one for each expert.
    """

    in_model: tuple[str, ...]
    in_files: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Return every name."""
        return (*self.in_model, *self.in_files)


def tensor_names(model: PreTrainedModel) -> dict[str, TensorNames]:
    """Return the names of every unfused tensor of a model, whose tensors may be empty, by its own name."""
    expected = model.state_dict()
    parts: dict[str, list[str]] = {}
    for name, stored in stored_names(declaration(model)).items():
        parts.setdefault(stored, []).append(name)
    result: dict[str, TensorNames] = {}
    for stored, names in parts.items():
        in_files = [*revert_weight_conversion(model, {stored: torch.empty_like(expected[stored], device="meta")})]
        kinds: dict[str, list[str]] = {}
        for name in in_files:
            kinds.setdefault(NUMBER.sub(".", name), []).append(name)
        each = list(kinds.values()) if len(kinds) == len(names) else [in_files] * len(names)  # parts are in their order
        result |= {
            name: TensorNames(tuple(dict.fromkeys((name, stored))), tuple(own))
            for name, own in zip(names, each, strict=True)
        }
    return result
