"""What the record of a fusion tells about a model that grew."""

from collections.abc import Mapping
from typing import Any

from transfuse.config.literals import FITTED_LAYERS


def growth_is_unused(record: Mapping[str, Any]) -> bool:
    """Return whether a model that grew computes what a parent computes, so that the units it gained do nothing."""
    history = record.get("learned_weights", {"best": 1})
    return "growth" in record and not history["best"] and not history.get("start", "").startswith(FITTED_LAYERS)
