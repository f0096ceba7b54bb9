"""Which rows of a dataset have a label that models can be measured on."""

from collections.abc import Sequence
from typing import Any

from datasets import Value
from transformers import PreTrainedConfig

from transfuse.base.counted import are, counted, have
from transfuse.data.column_kinds import contents, is_string
from transfuse.data.columns import LABEL_NAMES, preferred, raw_values
from transfuse.data.labels.numeric_labels import NUMBER_NAMES, SET_NAMES, class_columns, holds_numbers
from transfuse.data.parts import find_column, holds_label_lists
from transfuse.data.samples import Samples
from transfuse.data.tasks import Task
from transfuse.data.text.sequences import TARGET_NAMES
from transfuse.data.text.tagged_words import TAG_NAMES
from transfuse.errors import DataError, MissingLabelsError, NoLabelsError
from transfuse.network.class_order import folded_name

LABEL_COLUMNS = {
    "numbers": (NUMBER_NAMES, holds_numbers),
    "label_sets": (SET_NAMES, holds_label_lists),
    "entities": (TAG_NAMES, holds_label_lists),
    "tokens": (TARGET_NAMES, is_string),
}  # the usual names of labels of some kinds, and what their columns hold
PREDICTED = {"classes": "classes", "numbers": "numbers", "label_sets": "lists of classes", "entities": "lists of tags"}
ROWS_LOOKED_AT = 1000
ROW_BY_ROW = tuple(PREDICTED)  # kinds whose rows without a label are left out


def labeled_samples(rows: Samples, model_task: Task, config: PreTrainedConfig) -> Samples:
    """Return the samples that have a label as evaluation samples, with a note on the others.

    Raises:
        DataError: none has one, or the labels do not fit the model.
    """
    kind = model_task.kind
    columns = _label_columns(rows, kind, config) if kind in ROW_BY_ROW else []
    try:
        return model_task.labeled(_without_others(rows, _labeled(rows, kind, columns)))
    except MissingLabelsError as error:  # of answers and target texts
        if not error.labeled:
            raise
        return model_task.labeled(_without_others(rows, error.labeled))


def unread_labels(samples: Samples, kind: str, config: PreTrainedConfig) -> str | None:
    """Return a line on a column that could hold labels, by its name or by its first values, but is not read, if any.

    Args:
        kind: what the model predicts.
    """
    features = samples.dataset.features
    column = preferred(features, LABEL_NAMES) if kind in ROW_BY_ROW else None
    if column is not None and features[column] != Value("null"):
        return f"column {column!r} holds {contents(features[column])}, not {PREDICTED[kind]}, so it is not read"
    classes = {folded_name(name) for name in (config.id2label or {}).values()}
    texts = [name for name, feature in features.items() if is_string(feature) and kind == "classes"]
    first = samples.dataset.select(range(min(len(samples), ROWS_LOOKED_AT)))
    named = (name for name in texts if {folded_name(value or "") for value in raw_values(first, name)} <= classes)
    column = next(named, None)
    return column and f"column {column!r} holds classes of the model; --label-column reads them"


def _without_others(samples: Samples, labeled: Sequence[int]) -> Samples:
    """Return the samples in these places, with a note on the others; all if there are no such places."""
    missing = len(samples) - len(labeled)
    if not labeled or not missing:
        return samples
    note = f"{missing} of {counted(len(samples), 'sample')} {have(missing)} no label and {are(missing)} left out"
    return samples.select(labeled).with_note(note)


def _label_columns(samples: Samples, kind: str, config: PreTrainedConfig) -> list[str]:
    """Return the columns that a model of a kind reads its labels from: one, or one for each class of sets."""
    if kind == "classes":
        column = samples.label or samples.chosen_label
    else:
        column = samples.chosen_label or (find_column(samples, *LABEL_COLUMNS[kind]) if kind in LABEL_COLUMNS else None)
    if column is None:
        return class_columns(samples, config) if kind == "label_sets" else []
    return [column]


def _labeled(samples: Samples, kind: str, columns: Sequence[str]) -> list[int]:
    """Return the places of the samples that have a label in one of the columns."""
    rows = zip(*(raw_values(samples.dataset, name) for name in columns), strict=True)
    return [row for row, values in enumerate(rows) if any(_is_label(value, kind) for value in values)]


def _is_label(value: Any, kind: str) -> bool:
    """Return whether a value is a label, not null, NaN, an empty text, a negative class or only missing tags.

    If each class has a column of its own, -1 is no label.
    """
    if kind == "entities" and isinstance(value, list):
        return any(tag is not None and (isinstance(tag, str) or tag >= 0) for tag in value)
    is_negative = kind == "classes" and isinstance(value, int) and value < 0
    is_hidden = kind == "label_sets" and value == -1
    return value is not None and value == value and value != "" and not is_negative and not is_hidden


def has_no_label(samples: Samples, kind: str, config: PreTrainedConfig, problem: DataError | None = None) -> bool:
    """Return whether no sample has a label: all are missing or negative, or all numbers are -1.

    Args:
        kind: what the model predicts.
        problem: why the samples cannot be measured; None: they can.
    """
    if isinstance(problem, NoLabelsError) or (isinstance(problem, MissingLabelsError) and not problem.labeled):
        return True
    if problem is None and kind != "entities":
        column = samples.parts.get("numbers")
        return column is not None and all(value == -1 for value in raw_values(samples.dataset, column))
    columns = _label_columns(samples, kind, config)
    return bool(columns) and not _labeled(samples, kind, columns)
