"""Samples whose labels are numbers (regression) or sets of classes (multi-label classification)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from datasets import ClassLabel
from torch import Tensor
from transformers import PreTrainedConfig

from transfuse.base.counted import counted
from transfuse.data.column_kinds import is_number, is_string
from transfuse.data.columns import LABEL_NAMES, raw_values
from transfuse.data.parts import (
    class_ids,
    find_column,
    holds_label_lists,
    label_part,
    list_of,
    require_values,
    with_names_in_lists,
    with_parts,
)
from transfuse.data.samples import Prepare, Samples
from transfuse.errors import DataError
from transfuse.network.class_order import folded_name

NUMBER_NAMES = (*LABEL_NAMES, "score", "similarity_score", "similarity", "rating", "stars", "value")
SET_NAMES = (*LABEL_NAMES, "classes", "tags", "categories", "topics", "genres", "emotions")
CLASS_PART = "is "  # of a sample: whether it has a class, whose name follows
Preparer = Callable[..., Prepare]


def with_numbers(samples: Samples) -> Samples:
    """Return samples with one number each, or with a list of numbers, as labels.

    Raises:
        DataError: there is no column of numbers, or a sample has none.
    """
    column = label_part(samples, NUMBER_NAMES, holds_numbers, "numbers")
    _require_entries(samples, column)
    return with_parts(samples, samples.text, _inputs(samples) | {"numbers": column})


def with_label_sets(samples: Samples, config: PreTrainedConfig) -> Samples:
    """Return samples with any number of classes each as labels.

    They are a column of lists: names or ids of classes, or a 0 or 1 for every class. Otherwise, they are columns of 0
    and 1 that are called like the model's classes.

    Raises:
        DataError: there are no such columns, a sample has no list, or a number is neither 0 or 1 nor an id of a class.
    """
    features = samples.dataset.features
    column = samples.chosen_label or find_column(samples, SET_NAMES, holds_label_lists)
    if column is not None and holds_label_lists(features[column]):
        _require_entries(samples, column)
        role = "indicators" if _holds_indicators(samples, column, config.num_labels) else "classes"
        _require_indicators(samples, column, or_ids=role == "classes")
        parts = with_parts(samples, samples.text, _inputs(samples) | {role: column})
        return with_names_in_lists(parts, column, config) if role == "classes" else replace(parts, names=None)
    numeric = {folded_name(name): name for name, feature in features.items() if is_number(feature)}
    if not numeric or samples.chosen_label is not None:
        label_part(samples, SET_NAMES, holds_label_lists, "lists of classes")
    columns = {}
    for index in range(config.num_labels):
        name = config.id2label[index]
        if folded_name(name) not in numeric:
            raise DataError(
                f"{samples.name}: no column of lists of classes, and no column {name!r} of 0 and 1; name the column"
                " of lists 'labels', or give one column for each class of the model"
            )
        columns[_class_part(name)] = numeric[folded_name(name)]
    for column in columns.values():
        _require_indicators(samples, column)
    return with_parts(samples, samples.text, _inputs(samples) | columns)


def class_columns(samples: Samples, config: PreTrainedConfig) -> list[str]:
    """Return the columns of numbers that are called like classes of the model."""
    classes = {folded_name(name) for name in config.id2label.values()}
    features = samples.dataset.features
    return [name for name, feature in features.items() if is_number(feature) and folded_name(name) in classes]


def holds_numbers(feature: Any) -> bool:
    """Return whether a column holds numbers, or lists of numbers."""
    return is_number(feature) or is_number(list_of(feature))


def labeled_preparer(base: Preparer, labels: Callable[[Mapping[str, Any], PreTrainedConfig], list[float]]) -> Preparer:
    """Return a task's preparer that adds `labels` [sample, label] to what `base` makes of an image or a text.

    Args:
        labels: returns the labels of a row of parts.
    """

    def preparer(processor: Any, config: PreTrainedConfig) -> Prepare:
        prepare = base(processor, config)

        def prepare_rows(rows: list[Any]) -> Mapping[str, Tensor]:
            inputs = prepare([row["input"] if "input" in row else row["image"] for row in rows])
            return {**inputs, "labels": torch.tensor([labels(row, config) for row in rows], dtype=torch.float32)}

        return prepare_rows

    return preparer


def numbers_of(row: Mapping[str, Any], config: PreTrainedConfig) -> list[float]:
    """Return the numbers of a sample, as many as the model predicts.

    Raises:
        DataError: there are more or fewer, or one is not finite.
    """
    value = row["numbers"]
    numbers = [float(number) for number in (value if isinstance(value, list) else [value])]
    if len(numbers) != config.num_labels:
        raise DataError(
            f"data: {counted(len(numbers), 'number')} in a label, but the model predicts {config.num_labels}"
        )
    if not all(map(math.isfinite, numbers)):
        raise DataError(f"data: the label {value} is not finite; correct or remove it")
    return numbers


def indicators_of(row: Mapping[str, Any], config: PreTrainedConfig) -> list[float]:
    """Return 1 for every class of the model that a sample has, and 0 for the others.

    Raises:
        DataError: the labels are not classes of the model.
    """
    count = config.num_labels
    if "indicators" in row:
        given = [float(value) for value in row["indicators"]]
        if len(given) != count:
            raise DataError(
                f"data: {counted(len(given), 'entry')} in a label, but the model has {counted(count, 'class')}"
            )
        return given
    if "classes" in row:
        class_id = class_ids(row["names"], config)
        present = {class_id(value) for value in row["classes"]}
        return [float(index in present) for index in range(count)]
    return [float(row[_class_part(config.id2label[index])]) for index in range(count)]


def _class_part(name: str) -> str:
    """Return the name of the part that says whether a sample has a class, whichever number a model gives the class."""
    return CLASS_PART + folded_name(name)


def _require_entries(samples: Samples, column: str) -> None:
    """Raise `DataError` if a sample has no label, or a list with an empty entry."""
    require_values(samples, column)
    for row, value in zip(samples.rows, raw_values(samples.dataset, column), strict=True):
        if isinstance(value, list) and None in value:
            raise DataError(
                f"{samples.name}: row {row} (from 0) has an empty entry in {column}; fill it in or remove the row"
            )


def _require_indicators(samples: Samples, column: str, or_ids: bool = False) -> None:
    """Raise `DataError` if a label, or an entry of a list, is neither 0 nor 1.

    Args:
        or_ids: allow other whole numbers, which are ids of classes.
    """
    for row, value in zip(samples.rows, raw_values(samples.dataset, column), strict=True):
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, str) or entry in (0, 1) or (or_ids and float(entry).is_integer()):
                continue
            shown = "nothing" if entry is None else f"{entry:g}"
            kind = "0, 1 or the id of a class" if or_ids else "0 or 1"
            raise DataError(
                f"{samples.name}: row {row} (from 0) has {shown} in column {column!r}, but each label must be {kind};"
                " turn fractions into 0 and 1 by a threshold, and correct or remove other rows"
            )


def _inputs(samples: Samples) -> dict[str, str]:
    """Return the part that the model reads."""
    if samples.image is not None:
        return {"image": samples.image}
    assert samples.text is not None
    return {"input": samples.text}


def _holds_indicators(samples: Samples, column: str, classes: int) -> bool:
    """Return whether lists have a 0 or 1 for every class, and not ids: ids do not repeat, and are seldom all classes.

    Args:
        classes: number of classes of the model.
    """
    inner = list_of(samples.dataset.features[column])
    if isinstance(inner, ClassLabel) or is_string(inner):
        return False
    rows = [row for row in raw_values(samples.dataset, column) if row is not None]
    lengths = {len(row) for row in rows}
    repeats = any(len(set(row)) < len(row) for row in rows)
    if lengths == {classes} and repeats:
        return True
    is_binary = {float(value) for row in rows for value in row} <= {0.0, 1.0}
    return is_binary and (lengths == {classes} or (repeats and len(lengths) == 1))
