"""Pairs of texts, such as a premise and a hypothesis, which a classifier reads together."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, Features, List, Value

from transfuse.data.column_kinds import is_string

PAIR_NAMES = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("sentence_a", "sentence_b"),
    ("query", "passage"),
    ("query", "document"),
    ("anchor", "positive"),
    ("query", "positive"),
)
Pair = list[str]
"""Two texts."""


def pair_columns(dataset: Dataset) -> tuple[str, str] | None:
    """Return the two columns of texts whose names, without case, are those of a usual pair; None if there are none."""
    texts = {name.lower(): name for name, feature in dataset.features.items() if is_string(feature)}
    return next(((texts[one], texts[two]) for one, two in PAIR_NAMES if one in texts and two in texts), None)


def with_pair_column(dataset: Dataset, names: Sequence[str]) -> tuple[Dataset, str]:
    """Return a dataset with a column of pairs, and its name. A missing text of a pair is empty."""
    column = ",".join(names)

    def pairs(rows: dict[str, list[Any]]) -> dict[str, list[Pair]]:
        return {column: [[text or "" for text in texts] for texts in zip(*(rows[name] for name in names), strict=True)]}

    features = Features({**dataset.features, column: List(Value("string"))})
    return dataset.map(pairs, batched=True, features=features, keep_in_memory=True), column


def is_pair(value: Any) -> bool:
    """Return whether a sample is a pair of texts, and no conversation."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(text, str) for text in value)
