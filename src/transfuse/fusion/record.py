"""What `transfuse.json` says: inputs with their hashes, options, versions, and every space's diagnostics."""

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
from transfuse.config.options import Options
from transfuse.transport.solve import Match

PACKAGES = ("transfuse", "torch", "transformers", "POT", "scipy", "numpy")


@dataclass(frozen=True)
class Origin:
    """Where a model came from.

    Attributes:
        path: None for one that was passed in memory.
        folder: the one that such a model was loaded from, if it is known; it is not written over, and not recorded.
    """

    path: str | None
    architecture: str
    sha256: dict[str, str]
    folder: str | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return what the record says of it."""
        return {"path": self.path, "architecture": self.architecture, "sha256": self.sha256}


def origin(given: str | Path | PreTrainedModel, model: PreTrainedModel) -> Origin:
    """A checkpoint's files, or a loaded model's tensors, by hash."""
    if not isinstance(given, PreTrainedModel):
        return Origin(str(given), type(model).__name__, file_hashes(local_directory(given, "allow")))
    config = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
    hashes = {"state_dict": digest("", model.state_dict()), "config": digest(config, {})}
    folder = str(model.name_or_path or "")
    return Origin(None, type(model).__name__, hashes, folder if folder and Path(folder).is_dir() else None)


def describe(
    origins: Sequence[Origin],
    options: Options,
    weights: Sequence[float],
    choices: AlignContext,
    data: Any,
    alignments: Sequence[Alignment],
) -> dict[str, Any]:
    """The record of a fusion."""
    anchor = origins[0].path
    return {
        "models": [each.as_dict() | {"weight": weight} for each, weight in zip(origins, weights, strict=True)],
        "directory": str(Path.cwd()),
        "options": options.model_dump(mode="json"),
        "match_on": choices.match_on,
        "merge": options.merging(data is not None),
        "data": source_of(data),
        "calibration_samples": sum(map(batch_size, choices.batches)),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "alignments": [
            {
                "model": index + 1,
                "output_deviation": each.output_deviation,
                "disagreement_of_candidates": dict(each.candidates),
                "spaces": {name: diagnose(match) for name, match in each.matches.items()},
            }
            for index, each in enumerate(alignments)
        ],
        **file_record(None if anchor is None else local_directory(anchor, "allow")),
    }


def source_of(data: Any) -> str | None:
    """What to call the samples: their path or name, or that they were in memory."""
    if data is None:
        return None
    return str(data) if isinstance(data, str | Path) else getattr(data, "source", "dataset in memory")


def diagnose(match: Match) -> dict[str, float | int]:
    """Size, cost, exactness |push pull^T - I|, entropy and effective support of one space's map."""
    found = match.map
    source, target = found.units
    return {
        "source_units": source,
        "target_units": target,
        "cost": match.cost,
        "exactness": found.exactness(),
        "entropy": found.entropy(),
        "effective_support": found.support(),
    }
