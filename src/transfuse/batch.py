"""A batch: what a model takes, and the labels that stand beside it."""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

Batch = Mapping[str, Tensor]
MISSING = -100
"""Label of what has no answer: the index that `torch.nn.functional.cross_entropy` ignores."""


def cast(batch: Batch, dtype: torch.dtype) -> dict[str, Tensor]:
    """The batch with its real numbers in this precision; ids and masks stay."""
    return {name: values.to(dtype) if values.is_floating_point() else values for name, values in batch.items()}


def unlabelled(batch: Batch) -> dict[str, Tensor]:
    """What a model is given of a batch to predict from."""
    return {name: values for name, values in batch.items() if name != "labels"}


def answers(batch: Batch) -> Int[Tensor, " sample"]:
    """The labels of the samples; of language, those of the tokens that were hidden, [batch, token] flattened."""
    labels = batch["labels"]
    return labels if labels.ndim == 1 else labels[labels != MISSING]
