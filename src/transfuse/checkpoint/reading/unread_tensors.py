"""Tensors that checkpoints hold although their class lacks them, and that have no effect on its outputs."""

import re

# Constants that old checkpoints hold.
OBSOLETE = re.compile(r".*\.(attn|attention)\.masked_bias|.*\.attn\.attention\.bias")
UNREAD_POOLER = re.compile(r"\w+\.pooler\..*")  # many checkpoints hold one that their class does not have
# Pre-trained encoders, such as bert-base-uncased, also hold what only the prediction of the next sentence read.
UNREAD_BY_MASKED_LM = re.compile(r"cls\.seq_relationship\..*|sop_classifier\..*")
UNREAD_BY_ENCODER = re.compile(r"(lm|mask)_predictions\..*")  # of deberta-v3-base, whose config.json names no class


def is_unread(name: str, architecture: str) -> bool:
    """Return whether a tensor that a class lacks is known to have no effect on the outputs of this class."""
    of_class = (("ForMaskedLM", UNREAD_BY_MASKED_LM), ("Model", UNREAD_BY_ENCODER))
    by_class = any(architecture.endswith(end) and names.fullmatch(name) for end, names in of_class)
    return bool(by_class or UNREAD_POOLER.fullmatch(name) or OBSOLETE.fullmatch(name))
