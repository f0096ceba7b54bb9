"""Whether a checkpoint already has the basis of another one, according to the record in its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from transfuse.checkpoint.reading.companions import RECORD
from transfuse.checkpoint.reading.files import file_hashes
from transfuse.checkpoint.reading.load import local_directory
from transfuse.checkpoint.record.origin import resolved
from transfuse.checkpoint.writing.owned import json_or_none
from transfuse.config.literals import EXACT

Lineage = Literal["none", "missing", "basis", "gauge"]
"""What is known of a checkpoint's basis. none: nothing. missing: it was fine-tuned from a model that is missing
or has changed. basis: it is the anchor's, with norms not folded. gauge: it is the anchor's in the canonical gauge, in
which exact alignment merges models."""
MAX_GENERATIONS = 20  # of fine-tuning


def provenance(model: str | Path, anchor: str | Path) -> Lineage:
    """Return what the records of `model`, and of the models it was fine-tuned from, say of its basis.

    Files are compared by hash.
    """
    anchor_hashes = file_hashes(local_directory(anchor, "allow"))
    folder = local_directory(model, "allow")
    for _ in range(MAX_GENERATIONS):
        if file_hashes(folder) == anchor_hashes:
            return "basis"
        record = json_or_none(folder / RECORD)
        try:
            if "finetuned" not in record:
                return _basis_of_fusion(record, anchor_hashes)
            parent = record["finetuned"]
            if parent["sha256"] == anchor_hashes:
                return "basis"
            folder = Path(resolved(parent["path"], record.get("directory", ".")))
            if not folder.is_dir() or file_hashes(folder) != parent["sha256"]:
                return "missing"
        except (KeyError, IndexError, TypeError):  # not a record of transfuse
            return "none"
    return "none"


def _basis_of_fusion(record: Mapping[str, Any], anchor_hashes: Mapping[str, str]) -> Lineage:
    if record["models"][0]["sha256"] != anchor_hashes:
        return "none"
    return "gauge" if record["options"]["align"] in EXACT else "basis"
