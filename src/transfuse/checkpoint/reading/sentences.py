"""The modules that sentence-transformers runs after a model; they are copied if they have settings only, no weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfuse.checkpoint.reading.companions import (
    CARD,
    COMPANION_PATTERNS,
    CONFIG,
    EXTRA_PATTERNS,
    MODULES,
    RECORD,
    SENTENCE_PATTERNS,
    WEIGHT_SUFFIXES,
    matches_any,
)
from transfuse.checkpoint.reading.files import checked_json
from transfuse.checkpoint.reading.load import unmerged_directory
from transfuse.checkpoint.writing.owned import REPORT_JSON, REPORT_PAGE
from transfuse.errors import CheckpointError

PACKAGE = "sentence_transformers."
MODELS = ("Transformer", "MLMTransformer")  # modules whose files are those of the checkpoint itself
PLAIN = ("Pooling", "SpladePooling", "Normalize", "Dropout")  # modules without weights
CONFIGURED = ("Pooling", "SpladePooling", "Dropout")  # modules that need their config.json
POOLING = ("Pooling", "SpladePooling")
SETTINGS = "sentence_*_config.json"  # of the model itself


@dataclass(frozen=True)
class Module:
    """A module that runs after a model.

    Attributes:
        kind: name of its class.
        folder: subfolder of the checkpoint with its settings; empty for the checkpoint itself.
        settings: content of its config.json.
    """

    kind: str
    folder: str
    settings: dict[str, Any]


def read_modules(checkpoint: Path, kinds: Sequence[str] | None = None) -> list[Module]:
    """Return the modules that modules.json lists, or an empty list if there is no such file.

    Args:
        kinds: names of classes; modules of others are not read; None: all are.

    Raises:
        CheckpointError: a module cannot be copied, because it has weights or code or is outside the checkpoint.
    """
    file = checkpoint / MODULES
    if not file.is_file():
        return []
    entries = _read_json(file, list)
    if not all(isinstance(entry, dict) and isinstance(entry.get("type"), str) for entry in entries):
        raise CheckpointError(f"{file}: should list modules, each with type and path; restore or remove the file")
    chosen = [entry for entry in entries if kinds is None or _kind(entry["type"]) in kinds]
    return [_module(checkpoint, entry["type"], entry.get("path")) for entry in chosen]


def _kind(name: str) -> str:
    """Return the name of a class without that of its Python module."""
    return name.rpartition(".")[2]


def _module(checkpoint: Path, name: str, path: Any) -> Module:
    """Return the module of an entry in modules.json.

    Args:
        name: qualified name of its class.
        path: its subfolder.
    """
    file = checkpoint / MODULES
    kind = _kind(name)
    _check_path(checkpoint, kind, path)
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
                f"{file}: the model is in {path}; give that folder, or move its files beside {MODULES}"
            )
        return Module(kind, "", {})
    return Module(kind, path, _settings(checkpoint, kind, path))


def _check_path(checkpoint: Path, kind: str, path: Any) -> None:
    file = checkpoint / MODULES
    if not isinstance(path, str) or (path and not re.fullmatch(r"[^./\\:\0][^/\\:\0]*", path)):
        raise CheckpointError(
            f"{file}: path {path!r} of {kind} is not the name of a folder beside it; correct the file"
        )
    if path and (_is_model_file(path) or ((checkpoint / path).exists() and not (checkpoint / path).is_dir())):
        raise CheckpointError(
            f"{file}: path {path!r} of {kind} is the name of a file, not of a folder beside it; correct the file"
        )


def _is_model_file(name: str) -> bool:
    """Return whether an output may hold a file of this name."""
    names = (CONFIG, CARD, RECORD, REPORT_PAGE, REPORT_JSON)
    patterns = (*names, *COMPANION_PATTERNS, *EXTRA_PATTERNS, *SENTENCE_PATTERNS)
    return matches_any(name, (*patterns, "*.safetensors", "*.bin", "*.index.json"))


def _settings(checkpoint: Path, kind: str, path: str) -> dict[str, Any]:
    """Return the settings in a module's folder.

    Raises:
        CheckpointError: settings are missing, or the folder holds weights or is a link out of the checkpoint.
    """
    folder = checkpoint / path
    file = folder / CONFIG
    if not path or not file.is_file():
        if kind in CONFIGURED:
            raise CheckpointError(f"{folder}: no {CONFIG} of the module {kind}; fetch the folder again")
        if not path or not folder.exists():
            return {}
    if not _is_inside(folder, checkpoint) or not _is_inside(file, checkpoint):
        raise CheckpointError(f"{folder}: is a link out of {checkpoint}; copy the folder there")
    weights = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix in WEIGHT_SUFFIXES]
    if weights:
        raise CheckpointError(
            f"{folder}: its module {kind} has weights of its own ({weights[0]}), which cannot be fused;"
            f" remove it from {MODULES} to use the model without it"
        )
    return _read_json(file, dict) if file.is_file() else {}


def _is_inside(path: Path, checkpoint: Path) -> bool:
    """Return whether a path leads into the checkpoint, or into the blobs of the Hub's cache that its files link to."""
    root = checkpoint.resolve()
    target = path.resolve()
    blobs = root.parents[1] / "blobs" if root.parent.name == "snapshots" else root
    return target.is_relative_to(root) or target.is_relative_to(blobs)


def _read_json(file: Path, kind: type) -> Any:
    content = checked_json(file)
    if not isinstance(content, kind):
        raise CheckpointError(f"{file}: should hold a {kind.__name__}; restore the file")
    return content


def pooling_modes(modules: Sequence[Module]) -> list[str]:
    """Return the modes of all pooling modules under the same names, whichever version of the library wrote them."""
    modes = []
    for module in modules:
        if module.kind in POOLING:
            listed = module.settings.get("pooling_mode", module.settings.get("pooling_strategy", []))
            names = [*listed] if isinstance(listed, list) else [listed]
            flags = [name for name, value in module.settings.items() if value is True]
            names += [name.removeprefix("pooling_mode_") for name in flags if name.startswith("pooling_mode_")]
            modes += sorted({re.sub(r"_tokens?$", "", str(name)) for name in names})
    return modes


def longest_text(checkpoint: Path) -> int | None:
    """Return the number of tokens at which sentence-transformers cuts texts; None if its files name none.

    Raises:
        CheckpointError: the file that names it cannot be read.
    """
    files = sorted(checkpoint.glob(SETTINGS)) if (checkpoint / MODULES).is_file() else []
    limits = [_read_json(file, dict).get("max_seq_length") for file in files]
    return next((limit for limit in limits if isinstance(limit, int) and limit > 0), None)


def check_sentence_modules(models: Sequence[Any]) -> None:
    """Check that the modules of all models can be copied, and that all models pool as the anchor does.

    Args:
        models: checkpoints by path or name, the anchor first; loaded models have no such files.

    Raises:
        CheckpointError: a module cannot be copied, or pooling differs.
    """
    modules = [read_modules(unmerged_directory(model)) if isinstance(model, str | Path) else [] for model in models]
    for name, source_modules in zip(models[1:], modules[1:], strict=True):
        anchor = pooling_modes(modules[0])
        source = pooling_modes(source_modules)
        if modules[0] and source_modules and anchor != source:
            raise CheckpointError(
                f"{name}: sentence-transformers pools its tokens by {_joined(source)}, the anchor's by"
                f" {_joined(anchor)}; fuse models that pool alike, or remove its {MODULES} to pool as the anchor does"
            )


def _joined(modes: Sequence[str]) -> str:
    return " and ".join(modes) or "no module"


def sentence_files(checkpoint: Path) -> list[str]:
    """Return the names of all files that sentence-transformers needs; an empty folder's name ends with a slash."""
    top = {file.name for pattern in SENTENCE_PATTERNS for file in checkpoint.glob(pattern) if file.is_file()}
    folders = [module.folder for module in read_modules(checkpoint) if module.folder]
    folders = [name for name in folders if (checkpoint / name).is_dir()]
    inner = {f"{name}/{CONFIG}" if (checkpoint / name / CONFIG).is_file() else f"{name}/" for name in folders}
    return sorted(top | inner)
