"""What sentence-transformers keeps beside a model: the modules that follow it, of which only settings can be copied."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfuse.base.unique_json import read_json
from transfuse.checkpoint.companions import (
    CARD,
    COMPANION_PATTERNS,
    CONFIG,
    EXTRA_PATTERNS,
    RECORD,
    SENTENCE_PATTERNS,
    matches_any,
)
from transfuse.checkpoint.load import local_directory
from transfuse.errors import CheckpointError, first_line

MODULES = "modules.json"
PACKAGE = "sentence_transformers."
MODELS = ("Transformer", "MLMTransformer")  # whose files are those of the checkpoint itself
PLAIN = ("Pooling", "SpladePooling", "Normalize", "Dropout")  # without weights of their own
CONFIGURED = ("Pooling", "SpladePooling", "Dropout")  # which cannot be made without their config.json


@dataclass(frozen=True)
class Module:
    """What follows a model. `folder`: where its settings are, empty for the checkpoint itself."""

    kind: str
    folder: str
    settings: dict[str, Any]


def read_modules(checkpoint: Path) -> list[Module]:
    """Return what modules.json lists; nothing where there is no such file.

    Raises:
        CheckpointError: a module that cannot be copied: it has weights or code of its own, or lies elsewhere.
    """
    file = checkpoint / MODULES
    if not file.is_file():
        return []
    listed = _read(file, list)
    if not all(isinstance(each, dict) and isinstance(each.get("type"), str) for each in listed):
        raise CheckpointError(f"{file}: should list modules, each with type and path; restore or remove the file")
    return [_module(checkpoint, each["type"], each.get("path")) for each in listed]


def _module(checkpoint: Path, name: str, path: Any) -> Module:
    file, kind = checkpoint / MODULES, name.rpartition(".")[2]
    if not isinstance(path, str) or (path and not re.fullmatch(r"[^./\\:\0][^/\\:\0]*", path)):
        raise CheckpointError(
            f"{file}: path {path!r} of {kind} is not the name of a folder beside it; correct the file"
        )
    if path and (_is_file_of_a_model(path) or ((checkpoint / path).exists() and not (checkpoint / path).is_dir())):
        raise CheckpointError(
            f"{file}: path {path!r} of {kind} is the name of a file, not of a folder beside it; correct the file"
        )
    if not name.startswith(PACKAGE):
        raise CheckpointError(
            f"{file}: {name} is code, which is neither run nor copied; remove the file to use the model without it"
        )
    if kind not in (*MODELS, *PLAIN):
        raise CheckpointError(
            f"{checkpoint}: its module {path or kind} ({kind}) has weights of its own, which cannot be fused;"
            f" remove it from {MODULES} to use the model without it"
        )
    if kind in MODELS:
        if path:
            raise CheckpointError(
                f"{file}: the model lies in {path}; give that folder, or move its files beside {MODULES}"
            )
        return Module(kind, "", {})
    return Module(kind, path, _settings(checkpoint, kind, path))


def _is_file_of_a_model(name: str) -> bool:
    """Tell whether an output may have a file of this name."""
    known = (
        CONFIG,
        CARD,
        RECORD,
        "report.html",
        "report.json",
        *COMPANION_PATTERNS,
        *EXTRA_PATTERNS,
        *SENTENCE_PATTERNS,
    )
    return matches_any(name, (*known, "*.safetensors", "*.bin", "*.index.json"))


def _settings(checkpoint: Path, kind: str, path: str) -> dict[str, Any]:
    """Return the settings in a module's folder. Raises `CheckpointError` unless they are all that it needs."""
    folder = checkpoint / path
    file = folder / CONFIG
    if not path or not file.is_file():
        if kind in CONFIGURED:
            raise CheckpointError(f"{folder}: no {CONFIG} of the module {kind}; fetch the folder again")
        if not path or not folder.exists():
            return {}
    if not all(_inside(each, checkpoint) for each in (folder, file)):
        raise CheckpointError(f"{folder}: is a link out of {checkpoint}; copy the folder there")
    held = [each.name for each in sorted(folder.iterdir()) if each.suffix in (".safetensors", ".bin", ".pt", ".pth")]
    if held:
        raise CheckpointError(
            f"{folder}: its module {kind} has weights of its own ({held[0]}), which cannot be fused;"
            f" remove it from {MODULES} to use the model without it"
        )
    return _read(file, dict) if file.is_file() else {}


def _inside(path: Path, checkpoint: Path) -> bool:
    """Tell whether a path stays in the checkpoint, or in the hub's cache, where all files are links to its blobs."""
    root, found = checkpoint.resolve(), path.resolve()
    blobs = root.parents[1] / "blobs" if root.parent.name == "snapshots" else root
    return found.is_relative_to(root) or found.is_relative_to(blobs)


def _read(file: Path, kind: type) -> Any:
    try:
        found = read_json(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not readable as JSON ({first_line(error)}); restore the file") from error
    if not isinstance(found, kind):
        raise CheckpointError(f"{file}: should hold a {kind.__name__}; restore the file")
    return found


def pooling_modes(found: Sequence[Module]) -> list[str]:
    """Return the modes of pooling, which older and newer versions write differently, under one name each."""
    modes = []
    for each in found:
        if each.kind in ("Pooling", "SpladePooling"):
            given = each.settings.get("pooling_mode", each.settings.get("pooling_strategy", []))
            listed = given if isinstance(given, list) else [given]
            flags = [name.removeprefix("pooling_mode_") for name, on in each.settings.items() if on is True]
            named = [name for name in flags if f"pooling_mode_{name}" in each.settings]
            modes += sorted({re.sub(r"_tokens?$", "", str(name)) for name in (*listed, *named)})
    return modes


def check_sentence_modules(models: Sequence[Any]) -> None:
    """Raise `CheckpointError` for modules that cannot be copied, and for pooling that is not the anchor's.

    Args:
        models: checkpoints by path or name, the anchor first; loaded models have no such files.
    """
    found = [read_modules(local_directory(each)) if isinstance(each, str | Path) else [] for each in models]
    for name, each in zip(models[1:], found[1:], strict=True):
        ours, theirs = pooling_modes(found[0]), pooling_modes(each)
        if found[0] and each and ours != theirs:
            raise CheckpointError(
                f"{name}: sentence-transformers pools its tokens by {_words(theirs)}, the anchor's by {_words(ours)};"
                f" fuse models that pool alike, or remove its {MODULES} to pool as the anchor does"
            )


def _words(modes: Sequence[str]) -> str:
    return " and ".join(modes) or "no module"


def sentence_files(checkpoint: Path) -> list[str]:
    """Return the names of all files that sentence-transformers needs; a folder without files ends with a slash."""
    top = {file.name for pattern in SENTENCE_PATTERNS for file in checkpoint.glob(pattern) if file.is_file()}
    folders = [each.folder for each in read_modules(checkpoint) if each.folder and (checkpoint / each.folder).is_dir()]
    inside = {f"{name}/{CONFIG}" if (checkpoint / name / CONFIG).is_file() else f"{name}/" for name in folders}
    return sorted(top | inside)


def copy_sentence_files(source: Path, target: Path) -> list[str]:
    """Copy all files that sentence-transformers needs; return their names. Raises `CheckpointError`."""
    names = sentence_files(source)
    for name in names:
        (target / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (target / name).mkdir(exist_ok=True)
        else:
            shutil.copyfile(source / name, target / name)
    return names
