"""The names of tensors in files: a fused model keeps those of its anchor, where transformers has newer ones."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from transfuse.checkpoint.files import SAFETENSORS_NAMES, stored_dtypes, weight_files

OLDER = {".weight": ".gamma", ".bias": ".beta"}  # what TensorFlow called a norm's gain and bias


def keep_tensor_names(folder: Path, given: Path, prefix: str) -> None:
    """Rename the tensors saved in `folder` as those in `given` are, which from_pretrained loads as well.

    Args:
        prefix: of the names of all tensors but a head's, which the first checkpoints did without.
    """
    known = {name for file in weight_files(given, "allow") for name in stored_dtypes(file)}
    renamed: dict[str, str] = {}
    for file in weight_files(folder):
        found = {name: older for name in stored_dtypes(file) if (older := _older(name, known, prefix))}
        if found:
            tensors = {found.get(name, name): values for name, values in load_file(file).items()}
            save_file(tensors, file, {"format": "pt"})
        renamed |= found
    index = folder / SAFETENSORS_NAMES[1]
    if renamed and index.exists():
        document = json.loads(index.read_text(encoding="utf-8"))
        document["weight_map"] = {renamed.get(name, name): file for name, file in document["weight_map"].items()}
        index.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _older(name: str, known: set[str], prefix: str) -> str | None:
    """What `known` calls a tensor, if it is not its name."""
    if name in known:
        return None
    bare = name.removeprefix(f"{prefix}.")
    ends = [(bare.removesuffix(new) + old) for new, old in OLDER.items() if bare.endswith(new)]
    full = [(name.removesuffix(new) + old) for new, old in OLDER.items() if name.endswith(new)]
    return next((each for each in (bare, *full, *ends) if each in known), None)
