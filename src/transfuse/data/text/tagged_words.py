"""Samples for token classification: words, and the tag of each."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from transfuse.base.batch import IGNORED_LABEL
from transfuse.base.counted import counted
from transfuse.data.columns import listed_names
from transfuse.data.parts import (
    class_ids,
    find_column,
    holds_label_lists,
    holds_words,
    label_part,
    require_values,
    with_names_in_lists,
    with_parts,
)
from transfuse.data.samples import Prepare, Samples
from transfuse.data.text.encoding import encode, require_offsets
from transfuse.data.text.texts import text_preparer
from transfuse.errors import DataError, NoLabelsError

WORD_NAMES = ("tokens", "words", "text", "sentence")
TAG_NAMES = ("ner_tags", "tags", "labels", "label", "ner", "pos_tags", "upos", "chunk_tags")


def with_words(samples: Samples) -> Samples:
    """Return samples of words, or of texts if there is no column of lists of words."""
    words = find_column(samples, WORD_NAMES, holds_words)
    return samples.require_texts() if words is None else with_parts(samples, words, {"words": words})


def with_tags(samples: Samples, config: PreTrainedConfig | None = None) -> Samples:
    """Return samples of words with a tag each, and with a note if the model's configuration has no names for the tags.

    Raises:
        DataError: there are no words or no tags, or the model's classes have no names, and the tags are more or fewer.
    """
    words = find_column(samples, WORD_NAMES, holds_words)
    if words is None:
        names = listed_names(samples.dataset.column_names)
        raise NoLabelsError(f"{samples.name}: no column of lists of words among {names}; name it 'tokens'")
    tags = label_part(samples, TAG_NAMES, holds_label_lists, "lists of tags")
    require_values(samples, tags)
    return with_names_in_lists(with_parts(samples, words, {"words": words, "tags": tags}), tags, config)


def word_preparer(tokenizer: Any, config: PreTrainedConfig) -> Prepare:
    """Return a function from texts, or rows of words, to `input_ids` and `attention_mask` [batch, token].

    If the rows have tags, `labels` [batch, token] has the class of the first token of each word, and `IGNORED_LABEL`
    elsewhere.
    """
    prepare_texts = text_preparer(tokenizer, config)

    def prepare(rows: list[Any]) -> dict[str, Tensor]:
        if not isinstance(rows[0], dict):
            return prepare_texts(rows)
        require_offsets(tokenizer, "lists of words")
        words = [[word or "" for word in row["words"] or []] for row in rows]
        encoding = encode(_separating(tokenizer), config, words, is_split_into_words=True)
        batch = dict(encoding)
        if "tags" in rows[0]:
            tags = [_ids(row, config) for row in rows]
            batch["labels"] = torch.tensor([_first(encoding.word_ids(index), ids) for index, ids in enumerate(tags)])
        return batch

    return prepare


def _ids(row: dict[str, Any], config: PreTrainedConfig) -> list[int]:
    """Return the model's id of the tag of each word; `IGNORED_LABEL` for a tag that is missing or negative."""
    words, tags = row["words"] or [], row["tags"] or []
    if len(words) != len(tags):
        start = " ".join(map(str, words))[:40]
        raise DataError(
            f"data: a sample has {counted(len(words), 'word')} and {counted(len(tags), 'tag')}, that with the words"
            f" {start!r}; give one tag for each word"
        )
    class_id = class_ids(row["names"], config)
    ignored = [tag is None or (not isinstance(tag, str) and tag < 0) for tag in tags]
    return [IGNORED_LABEL if skip else class_id(tag) for tag, skip in zip(tags, ignored, strict=True)]


def _first(word_ids: list[int | None], ids: list[int]) -> list[int]:
    """Return the label of every token: that of its word if it is the first of it."""
    before = [None, *word_ids[:-1]]
    return [
        IGNORED_LABEL if word is None or word == previous else ids[word]
        for word, previous in zip(word_ids, before, strict=True)
    ]


def _separating(tokenizer: Any) -> Any:
    """Return the tokenizer, or a copy that puts a space in front of every word if its tokens contain the spaces."""
    backend = tokenizer.backend_tokenizer
    if getattr(backend.pre_tokenizer, "add_prefix_space", True):
        return tokenizer
    separating = copy.deepcopy(tokenizer)
    separating.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    separating.add_prefix_space = True
    return separating
