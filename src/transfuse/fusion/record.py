"""Build the content of `transfuse.json`: inputs with hashes, options, versions, and diagnostics of every space."""

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transfuse.alignment.interface import AlignContext, Alignment
from transfuse.base.batch import batch_size
from transfuse.checkpoint.companions import RECORD as RECORD
from transfuse.checkpoint.leftovers import file_record
from transfuse.checkpoint.load import local_directory
from transfuse.checkpoint.origin import PACKAGES, Origin
from transfuse.config.options import Options
from transfuse.data.load import data_name
from transfuse.data.samples import Samples
from transfuse.transport.solve import Match


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
