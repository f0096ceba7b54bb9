"""Find the parts of samples, such as a question and its context, by the usual names of columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from datasets import ClassLabel, Value
from transformers import PreTrainedConfig

from transfuse.base.counted import counted, have
from transfuse.data.column_kinds import is_number, is_string
from transfuse.data.columns import listed_names, preferred, raw_values
from transfuse.data.labels.class_matching import OTHER_TASK, UNKNOWN_ORDER, alphabetical_order, match_classes
from transfuse.data.samples import Samples
from transfuse.data.text.messages import holds_messages
from transfuse.errors import DataError, MissingLabelsError, NoLabelsError
from transfuse.network.class_order import are_unnamed

Fits = Callable[[Any], bool]


def find_column(samples: Samples, names: Sequence[str], fits: Fits) -> str | None:
    """Return the column with the first of these names, without case, whose kind fits; None if there is none."""
    return preferred((name for name, feature in samples.dataset.features.items() if fits(feature)), names)


def label_part(samples: Samples, names: Sequence[str], fits: Fits, what: str) -> str:
    """Return the column of labels: the one that was asked for, or the one with a usual name.

    Args:
        what: what the column should hold, for error messages.

    Raises:
        NoLabelsError: there is no such column.
        DataError: the column that was asked for holds something else.
    """
    features = samples.dataset.features
    column = samples.chosen_label or find_column(samples, names, fits)
    if column is None or not fits(features[column]):
        if samples.chosen_label is None:
            raise NoLabelsError(
                f"{samples.name}: no column that holds {what} among {listed_names(list(features))}; name that column"
                f" {names[0]!r}"
            )
        others = [name for name, feature in features.items() if fits(feature)]
        raise DataError(
            f"{samples.name}: column {column!r} (label_column) does not hold {what}; these do: {listed_names(others)}"
        )
    return column


def require_values(samples: Samples, column: str) -> None:
    """Raise `MissingLabelsError` if a sample has nothing in a column, or no number where numbers should be."""
    values = raw_values(samples.dataset, column)
    missing = [row for row, value in enumerate(values) if value is None or value != value]
    if missing:
        labeled = sorted(set(range(len(values))) - set(missing))
        raise MissingLabelsError(
            f"{samples.name}: {len(missing)} of {counted(len(samples), 'sample')} {have(len(missing))} no {column},"
            f" the first in row {samples.rows[missing[0]]} (from 0); use a split with labels or remove them",
            labeled,
        )


def with_parts(samples: Samples, text: str | None, parts: Mapping[str, str]) -> Samples:
    """Return samples with parts instead of one text and one label, without those whose text is missing or blank.

    Args:
        text: the column that tells how long a sample is; None: there is none.
        parts: the column of each part.

    Raises:
        DataError: all texts are blank.
    """
    if text is not None and (is_string(feature := samples.dataset.features[text]) or holds_messages(feature)):
        samples = samples.without_blank_texts(text)
    return replace(samples, text=text, label=None, image=parts.get("image"), parts=parts)


def list_of(feature: Any) -> Any:
    """Return the kind of the entries of a column of lists; None if it holds no lists."""
    return getattr(feature, "feature", None)


def with_names_in_lists(samples: Samples, column: str, config: PreTrainedConfig | None) -> Samples:
    """Return samples with the class names of a column of lists, as `columns.class_names` finds those of single classes.

    Args:
        config: the model's configuration; a note says if its classes have no names and those of the data are numbered.

    Raises:
        DataError: the model's classes have no names, and the data name more or fewer.
    """
    inner = list_of(samples.dataset.features[column])
    if isinstance(inner, ClassLabel):
        return replace(samples, names=tuple(inner.names))
    if not is_string(inner):
        return replace(samples, names=None)
    names = {name for names in raw_values(samples.dataset, column) for name in names or ()} - {None}
    named = replace(samples, names=tuple(sorted(names)))
    if config is None or not names or match_classes(named.names, config.id2label or {}, samples.name) is not None:
        return named
    return named.with_note(alphabetical_order(sorted(names), len(config.id2label), samples.name))


def class_ids(names: Sequence[str] | None, config: PreTrainedConfig) -> Callable[[Any], int]:
    """Return a function from a class of the data, a name or a number, to the model's id.

    Raises:
        DataError: the model lacks a class of the data. The function raises it for a number that is not a class.
    """
    classes = tuple(sorted((config.id2label or {}).items()))
    matched = _matched(None if names is None else tuple(names), classes)

    def class_id(value: Any) -> int:
        index = names.index(value) if isinstance(value, str) and names is not None else int(value)
        if isinstance(value, str) and matched is None and names is not None and len(names) != len(classes):
            raise DataError(
                f"data: {counted(len(names), 'class name')}, and {counted(len(classes), 'class')} {UNKNOWN_ORDER}"
            )
        found = index if matched is None else matched[index]
        if not 0 <= found < len(classes):
            raise DataError(f"data: label {value!r}, but the model has {counted(len(classes), 'class')}; {OTHER_TASK}")
        return found

    return class_id


@lru_cache(maxsize=8)
def _matched(names: tuple[str, ...] | None, classes: tuple[tuple[int, str], ...]) -> dict[int, int] | None:
    """Return the model's id of each class of the data, or None to keep the ids."""
    return match_classes(names, dict(classes), "data")


def shown_classes(config: PreTrainedConfig, names: Sequence[str] | None) -> dict[int, str]:
    """Return the class names of a model, or those of the data if the model has none and as many classes."""
    classes = dict(config.id2label or {})
    fits = names is not None and len(names) == len(classes) and are_unnamed(classes)
    return dict(enumerate(names or ())) if fits else classes


def holds_words(feature: Any) -> bool:
    """Return whether a column holds lists of words."""
    inner = list_of(feature)
    return isinstance(inner, Value) and is_string(inner)


def holds_label_lists(feature: Any) -> bool:
    """Return whether a column holds lists of classes, texts or numbers."""
    inner = list_of(feature)
    return isinstance(inner, ClassLabel) or is_string(inner) or is_number(inner)
