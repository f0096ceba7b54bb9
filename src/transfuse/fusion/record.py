"""Build the content of `transfuse.json`: inputs with hashes, options, versions, and diagnostics of every space."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.base.batch import batch_size
from transfuse.base.hashing import digest
from transfuse.checkpoint.companions import RECORD as RECORD
from transfuse.checkpoint.files import file_hashes
from transfuse.checkpoint.leftovers import file_record
from transfuse.checkpoint.load import local_directory
from transfuse.checkpoint.parent_card import card_fields
from transfuse.config.options import Options
from transfuse.data.samples import Samples
from transfuse.transport.solve import Match

PACKAGES = ("transfuse", "torch", "transformers", "POT", "scipy", "numpy")


@dataclass(frozen=True)
class Origin:
    """Identify an input model.

    Attributes:
        path: the path or Hub name; None for a model that was passed in memory.
        architecture: the name of its class.
        sha256: hashes by file name, or of the weights and the configuration of a model in memory.
        folder: the folder that a model in memory was loaded from, if known. It is protected from being overwritten
            and is not recorded.
        card: license, language, task and data, if the model's own card states them.
    """

    path: str | None
    architecture: str
    sha256: dict[str, str]
    folder: str | None = field(default=None, compare=False)
    card: dict[str, str | list[str]] = field(default_factory=dict, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry of this model in the record."""
        return {"path": self.path, "architecture": self.architecture, "sha256": self.sha256}


def origin(source: str | Path | PreTrainedModel, model: PreTrainedModel) -> Origin:
    """Hash the files of a checkpoint, or the tensors and the configuration of a loaded model.

    Args:
        source: what the user passed, which is a path or the loaded model.
        model: the model, whose tensors may be empty if `source` is a path.
    """
    if not isinstance(source, PreTrainedModel):
        folder = local_directory(source, "allow")
        own = Path(source).expanduser()  # an adapter's, whose merged folder has no card
        card = card_fields(own if own.is_dir() else folder)
        return Origin(str(source), type(model).__name__, file_hashes(folder), card=card)
    config = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
    hashes = {"state_dict": digest("", model.state_dict()), "config": digest(config, {})}
    path = str(model.name_or_path or "")
    known = path if path and Path(path).is_dir() else None
    return Origin(None, type(model).__name__, hashes, known, card_fields(Path(known)) if known else {})


def fusion_record(
    origins: Sequence[Origin],
    options: Options,
    weights: Sequence[float],
    context: AlignContext,
    data: Any,
    alignments: Sequence[Alignment],
) -> dict[str, Any]:
    """Return the record of a fusion. `weights` holds one weight per model."""
    anchor = origins[0].path
    split = data.split if isinstance(data, Samples) else None
    return {
        "models": [
            model.as_dict() | {"weight": weight} | ({"card": model.card} if model.card else {})
            for model, weight in zip(origins, weights, strict=True)
        ],
        "directory": str(Path.cwd()),
        "options": options.model_dump(mode="json"),
        "match_on": context.match_on,
        "merge": options.merging(data is not None),
        "data": data_name(data),
        "calibration_samples": sum(map(batch_size, context.batches)),
        **({"calibration_split": split} if split and context.batches else {}),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "alignments": [
            {
                "model": index + 1,
                "output_deviation": alignment.output_deviation,
                "disagreement_of_candidates": dict(alignment.candidates),
                "spaces": {name: match_diagnostics(match) for name, match in alignment.matches.items()},
            }
            for index, alignment in enumerate(alignments)
        ],
        **file_record(None if anchor is None else local_directory(anchor, "allow")),
    }


def data_name(data: Any) -> str | None:
    """Return the path or name of the samples, or `dataset in memory`."""
    if data is None:
        return None
    return str(data) if isinstance(data, str | Path) else getattr(data, "source", "dataset in memory")


def match_diagnostics(match: Match) -> dict[str, float | int]:
    """Return size, cost, exactness |push pull^T - I|, entropy and effective support of the map of one space."""
    source_units, target_units = match.map.units
    return {
        "source_units": source_units,
        "target_units": target_units,
        "cost": match.cost,
        "exactness": match.map.exactness(),
        "entropy": match.map.entropy(),
        "effective_support": match.map.support(),
    }
