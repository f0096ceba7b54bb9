"""The names of tensors in files; a fused model keeps the names in its anchor's files if transformers renamed them."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from transfuse.checkpoint.companions import SAFETENSORS_NAMES
from transfuse.checkpoint.files import stored_dtypes, weight_files

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
        document = json.loads(index.read_text(encoding="utf-8"))
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
