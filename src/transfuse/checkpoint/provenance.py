"""Whether a checkpoint lies in another's basis already: the record beside it says what it was made of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from transfuse.checkpoint.companions import RECORD
from transfuse.checkpoint.files import file_hashes
from transfuse.checkpoint.load import local_directory
from transfuse.config.literals import EXACT

Lineage = Literal["none", "basis", "gauge"]
"""none: nothing is known. basis: the anchor's, its norms not folded. gauge: the anchor's in canonical gauge, which
exact symmetries are merged in."""
GENERATIONS = 20  # of fine-tuning, at most


def provenance(model: str | Path, anchor: str | Path) -> Lineage:
    """What the records of `model`, and of what it was fine-tuned from, say of `anchor`; files are compared by hash."""
    ours, folder = file_hashes(local_directory(anchor, "allow")), local_directory(model, "allow")
    for _ in range(GENERATIONS):
        if file_hashes(folder) == ours:
            return "basis"
        record = _record(folder)
        try:
            if "finetuned" not in record:
                return _of_fusion(record, ours)
            before = record["finetuned"]
            if before["sha256"] == ours:
                return "basis"
            folder = Path(before["path"])
            if not folder.is_dir() or file_hashes(folder) != before["sha256"]:
                return "none"
        except (KeyError, IndexError, TypeError):  # no record of ours
            return "none"
    return "none"


def _of_fusion(record: Mapping[str, Any], anchor: Mapping[str, str]) -> Lineage:
    if record["models"][0]["sha256"] != anchor:
        return "none"
    return "gauge" if record["options"]["align"] in EXACT else "basis"


def _record(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
