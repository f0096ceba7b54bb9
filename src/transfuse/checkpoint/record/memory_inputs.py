"""What a report on a fusion cannot read again, because it was passed in memory."""

from collections.abc import Mapping
from typing import Any

from transfuse.checkpoint.record.command import DATASET_IN_MEMORY
from transfuse.checkpoint.record.resized import resized_by_samples


def has_samples_in_memory(record: Mapping[str, Any]) -> bool:
    """Return whether the samples of a fusion were passed in memory."""
    return str(record.get("data")).startswith(DATASET_IN_MEMORY)


def matched_on_samples(record: Mapping[str, Any]) -> bool:
    """Return whether samples had a part in how the units of a fusion were matched."""
    align = record["options"]["align"]
    compared = any(alignment.get("disagreement_of_candidates") for alignment in record.get("alignments", ()))
    sized = resized_by_samples(record.get("resized", ()))
    return align in ("flow", "learned") or record["match_on"] != "weights" or compared or sized


def report_command(record: Mapping[str, Any]) -> str | None:
    """Return the command that writes measurements into the card; None if an input that it needs was in memory."""
    if any(model["path"] is None for model in record["models"]):
        return None
    if not has_samples_in_memory(record):
        return "report"
    return None if matched_on_samples(record) else "report --data DATA"
