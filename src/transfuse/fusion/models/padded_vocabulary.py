"""Models of one tokenizer whose numbers of rows differ, because one is padded: give the source the anchor's rows.

Many models have more embeddings than their tokenizer has tokens, for example to reach a multiple of 64. No text has the
tokens of these rows, so they may be left out or added.
"""

import copy
from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.counted import are, counted
from transfuse.checkpoint.reading.load import local_directory
from transfuse.data.text.saved_tokenizer import vocabulary
from transfuse.errors import CheckpointError
from transfuse.fusion.models.vocabulary import recode


def is_padded(models: Sequence[PreTrainedModel], names: Sequence[str], index: int) -> bool:
    """Return whether a source differs from the anchor in the number of rows beyond their common tokenizer.

    Args:
        models: the anchor first; their tensors may be empty.
        names: the path of each model. The tokenizer of a model without a path is not known.
        index: which model the source is.
    """
    pair = (models[0], models[index])
    rows, expected = (getattr(model.config, "vocab_size", None) for model in pair)
    if rows is None or expected is None or rows == expected:
        return False
    try:
        folders = [local_directory(name, "allow") for name in (names[0], names[index])]
    except CheckpointError:
        return False
    anchor_ids, source_ids = map(vocabulary, folders)
    if not anchor_ids or source_ids != anchor_ids:
        return False
    return max(anchor_ids.values()) < min(rows, expected)


def with_rows(config: PreTrainedConfig, rows: int) -> PreTrainedConfig:
    """Return a copy of a configuration with another number of rows."""
    changed = copy.deepcopy(config)
    changed.vocab_size = rows
    return changed


def resized_to_anchor(source: PreTrainedModel, anchor: PreTrainedModel) -> PreTrainedModel:
    """Return the source with as many rows as the anchor: the last are left out, or the mean of its rows is added."""
    rows = torch.arange(anchor.config.vocab_size)
    return recode(source, rows.where(rows < source.config.vocab_size, -1), anchor)


def padding_warning(anchor: PreTrainedModel, source: PreTrainedModel, name: str, anchor_name: str) -> str:
    """Return what to tell the user about a source that is resized."""
    rows, expected = source.config.vocab_size, anchor.config.vocab_size
    change = f"its last {counted(rows - expected, 'row')} {are(rows - expected)} left out"
    if rows < expected:
        change = f"{counted(expected - rows, 'row')}, the mean of its own, {are(expected - rows)} added"
    return (
        f"{name}: vocab_size is {rows}, that of {anchor_name} is {expected}, and their tokenizers agree, so the"
        f" difference is padding; {change}"
    )
