"""What identifies an input model in a record: its path, the name of its class, hashes, and its card."""

import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.hashing import tensors_digest, text_digest
from transfuse.checkpoint.cards.parents import LICENSE, card_fields
from transfuse.checkpoint.reading.files import file_hashes
from transfuse.checkpoint.reading.load import adapter_base, local_directory, unmerged_directory
from transfuse.checkpoint.record.copied_files import model_files
from transfuse.checkpoint.record.leftovers import file_record

PACKAGES = ("transfuse", "torch", "transformers", "POT", "scipy", "numpy")  # whose versions are recorded


@dataclass(frozen=True)
class Origin:
    """Identify an input model.

    Attributes:
        path: the path or Hub name; None for a model that was passed in memory.
        architecture: the name of its class.
        sha256: hashes by file name, or of the weights and the configuration of a model in memory.
        folder: the folder that a model in memory was loaded from, if known, or that of the base model of an adapter. It
            is protected from being overwritten and is not recorded.
        card: license, language, task and data, if the model's own card states them.
    """

    path: str | None
    architecture: str
    sha256: dict[str, str]
    folder: str | None = field(default=None, compare=False)
    card: dict[str, str | list[str]] = field(default_factory=dict, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return what identifies this model, as values that JSON can represent."""
        return {"path": self.path, "architecture": self.architecture, "sha256": self.sha256}

    def entry(self) -> dict[str, Any]:
        """Return the entry of this model in the record, with what its card states."""
        return self.as_dict() | ({"card": self.card} if self.card else {})


def run_facts(source: str | Path | PreTrainedModel | None) -> dict[str, Any]:
    """Return what every record tells of a run: its directory, the versions, and the files that are copied or left out.

    Args:
        source: the model whose files are copied; of a model in memory, or None, there are none.
    """
    return {
        "directory": str(Path.cwd()),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        **file_record(model_files(None if isinstance(source, PreTrainedModel) else source)),
    }


def resolved(path: str, directory: str) -> str:
    """Return a recorded path, which may be relative to the directory that the command ran in."""
    absolute = Path(directory) / path
    return path if absolute == Path(path).absolute() or not absolute.exists() else str(absolute)


def origin(source: str | Path | PreTrainedModel, model: PreTrainedModel) -> Origin:
    """Hash the files of a checkpoint, or the tensors and the configuration of a loaded model.

    Args:
        source: what the user passed, which is a path or the loaded model.
        model: the model, whose tensors may be empty if `source` is a path.
    """
    if not isinstance(source, PreTrainedModel):
        folder = local_directory(source, "allow")
        base = adapter_base(source)
        hashes = file_hashes(folder)
        return Origin(str(source), type(model).__name__, hashes, None if base is None else str(base), _card(source))
    config = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
    hashes = {"state_dict": tensors_digest(model.state_dict()), "config": text_digest(config)}
    path = str(model.name_or_path or "")
    known = path if path and Path(path).is_dir() else None
    return Origin(None, type(model).__name__, hashes, known, card_fields(Path(known)) if known else {})


def _card(source: str | Path) -> dict[str, str | list[str]]:
    """Return the fields of a model's card. An adapter whose card states no license has the license of its base."""
    fields = card_fields(unmerged_directory(source, "allow"))
    base = None if "license" in fields else adapter_base(source)
    inherited = {} if base is None else card_fields(base)
    return {name: inherited[name] for name in LICENSE if name in inherited} | fields
