"""Sentences of a model card on how models were matched and merged."""

from collections.abc import Mapping, Sequence
from typing import Any

from transfuse.base.counted import counted
from transfuse.checkpoint.cards.markdown import code, text
from transfuse.checkpoint.record.outcome import growth_is_unused, keeps_function, kept_parent, starts_from_fit
from transfuse.config.literals import FITTED_LAYERS

ALIGNED = {  # how units were matched, by the name of the alignment
    "exact": "The units of the models were matched by the exact symmetries of their architecture, on their {on}.",
    "learned": "The units of the models were matched by the exact symmetries of their architecture, and the maps were"
    " then trained.",
    "flow": "The units of the models were matched by optimal transport, layer by layer, on their {on}.",
    "none": "The units of the models were not matched.",
}
SHARED_BASE = "The models share a base, so their units correspond already and were not matched."
ONE_MODEL = "The model shares the units of its base, so nothing was matched."
MERGED = {  # how matched models were merged, by the name of the method
    "mean": "The result is the weighted mean of the models.",
    "slerp": "The result lies on the arc between the tensors of the two models (SLERP).",
    "task-arithmetic": "The task vectors of the models were added to the base.",
    "ties": "The task vectors were trimmed, their signs were elected, and they were added to the base (TIES).",
    "dare-linear": "Entries of the task vectors were dropped at random, and the others were added to the base (DARE).",
    "dare-ties": "Entries of the task vectors were dropped at random, signs were elected, and the others were added to"
    " the base (DARE, TIES).",
    "least-squares": "Each layer was then fitted by least squares to the outputs of that layer in the models.",
    "learned": "All weights were then trained on the outputs of the models.",
}


def alignment_sentence(record: Mapping[str, Any]) -> str:
    """Return a sentence on the alignment."""
    if "shared_base" in record:
        return SHARED_BASE if len(record["models"]) > 1 else ONE_MODEL
    name = record["options"]["align"]
    matched_on = "activations and weights" if record["match_on"] == "both" else record["match_on"]
    return ALIGNED[name].format(on=matched_on) if name in ALIGNED else f"The models were aligned by {code(name)}."


def kept_model(record: Mapping[str, Any], names: Sequence[str]) -> tuple[str, str]:
    """Return the parent that the result is, because nothing was better, and the predicate of a sentence on that.

    Both are Markdown, and empty if there is none.

    Args:
        names: the short names of the models; empty for those that were passed in memory.
    """
    kept = kept_parent(record)
    if kept is None:
        return "", ""
    parent = code(names[kept]) if names[kept] else f"model {kept + 1} (passed in memory)"
    if not kept:
        return parent, f"computes what {parent} computes"
    if keeps_function(record, kept):
        return parent, f"is {parent} in the basis of the anchor"
    parent = f"what {parent} became in the shape of the anchor"
    return parent, f"is {parent}"


def merge_sentences(record: Mapping[str, Any], parent: str) -> str:
    """Return sentences on the merge: on trained weights, also on what they started from and on whether that gained.

    Args:
        parent: the parent that the result is, because nothing was better; empty if there is none.
    """
    name = record["merge"]
    sentence = MERGED.get(name, f"The aligned models were merged by {code(name)}.")
    history = record.get("learned_weights")
    if not history:
        return sentence
    fit = f"{MERGED['least-squares']} " if "least_squares" in record else ""
    steps = history["best"] or history["steps"]
    start = history.get("start", FITTED_LAYERS)
    fitted = starts_from_fit(history)
    trained = f"{fit}{sentence.removesuffix('.')}, for {counted(steps, 'step')}"
    sentence = f"{trained}."
    if history["best"]:
        return sentence if fitted else f"{trained}, starting from {text(start)}, which did best on held-out samples."
    if history.get("refitted"):
        why = f"{sentence} That gained too little, so" if history["steps"] else f"{fit}Nothing was trained, and"
        return f"{why} the result is layers that were fitted again, to held-out samples too."
    start = parent or text(start)
    if history["steps"]:
        sentence = f"{sentence} That gained nothing, so the result is {'the ' if fitted else ''}{start}."
    else:
        subject, verb = (f"The {start}", "are") if fitted else (f"{start[:1].upper()}{start[1:]}", "is")
        sentence = f"{fit}{subject} did best on held-out samples and {verb} the result. Nothing was trained."
    if growth_is_unused(record):
        sentence += " The hidden units and heads that were added do nothing."
    return sentence
