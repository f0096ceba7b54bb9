"""What growing, shrinking and learning came to, by the record of a model."""

import re
from collections.abc import Mapping
from typing import Any

from transfuse.base.counted import counted
from transfuse.checkpoint.record.resized import gave_up
from transfuse.config.literals import ALIGNMENTS, FITTED_LAYERS, KEEP_WEIGHT

PARENT = "model {}"  # as a start of the training, by its number
PARENTS = "the mean of the parents"


def kept_parent(record: Mapping[str, Any]) -> int | None:
    """Return the index of the model that is the result, because nothing was better; None if there is none."""
    history = record.get("learned_weights", {"best": 1})
    found = None if history["best"] else re.fullmatch(PARENT.format(r"(\d+)"), history.get("start", ""))
    return None if found is None else int(found[1]) - 1


def keeps_function(record: Mapping[str, Any], index: int) -> bool:
    """Return whether a model still computed what it did, once it had the basis and the shape of the anchor."""
    name = record["models"][index]["path"] or f"model {index + 1}"
    changed = any(line.startswith(f"{name}: has ") and gave_up(line) for line in record.get("resized", ()))
    return not changed and (not index or ALIGNMENTS.get(record["options"]["align"], False))


def starts_from_fit(history: Mapping[str, Any]) -> bool:
    """Return whether training started from fitted layers, or whether they are the result without it.

    Args:
        history: `learned_weights` of a record.
    """
    return history.get("start", FITTED_LAYERS).startswith(FITTED_LAYERS)


def growth_is_unused(record: Mapping[str, Any]) -> bool:
    """Return whether a model that grew computes what a parent computes, so that the units it gained do nothing."""
    history = record.get("learned_weights", {"best": 1})
    return "growth" in record and not history["best"] and not starts_from_fit(history)


def smaller_sizes(record: Mapping[str, Any]) -> str:
    """Return every size of a small model that differs from the large one's, as `layers 12 to 6`."""
    large, small = (record["sizes"][name] for name in ("large", "small"))
    return ", ".join(f"{name} {large[name]} to {size}" for name, size in small.items() if large[name] != size)


def reference(record: Mapping[str, Any]) -> str:
    """Return whose predictions the loss is compared with: the parents', or those that a carried fine-tune follows."""
    if "carried" not in record:
        return PARENTS
    keeps = record["kept_samples"] and record["options"]["head"] == "fused"  # a new head says nothing of the new base
    return "the tuned model" + (
        f", plus {KEEP_WEIGHT} times that above the new base on samples to keep," if keeps else ""
    )


def learning_line(history: Mapping[str, Any], above: str = PARENTS) -> str:
    """Return what learning the weights did: its steps, its start, and the loss on held-out samples.

    Args:
        history: `learned_weights` of a record.
        above: whose predictions the loss is compared with.
    """
    start = history.get("start", FITTED_LAYERS)
    gap = history.get("reached", min(history["excess"]))
    unit = history.get("unit", "nats")
    reached = f"{abs(gap):.3f} {unit} {'above' if gap > 0 else 'below'} {above} on held-out samples"
    if history.get("refitted"):
        why = "training gained too little" if history["steps"] else "no training"
        again = "so the layers were fitted again, this time to held-out samples too"
        return f"{why}, {again}; before that, they were {reached}"
    if history["best"]:
        return f"weights learned in {counted(history['steps'], 'step')} from {start}, {reached}"
    if history["steps"]:
        return f"training gained nothing, so the result is {start}, {reached}"
    return f"no training, because the best start on held-out samples is {start}, {reached}"
