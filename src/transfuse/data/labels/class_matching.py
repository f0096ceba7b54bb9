"""Which class of a model a label of the data is: by its name, by its number, or in alphabetical order."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datasets import Dataset

from transfuse.base.counted import counted
from transfuse.data.columns import listed_names, raw_values
from transfuse.errors import DataError
from transfuse.network.class_order import are_unnamed, folded_name

OTHER_TASK = "use the data, or the model, of the other task"
UNKNOWN_ORDER = (
    "without names in the model, so it is unknown which is which; give numbers as labels, or id2label in config.json"
)


@dataclass(frozen=True)
class PlainLabels:
    """Hold the labels of a column of whole numbers or booleans, which may be names of classes that look like these.

    Attributes:
        values: the labels that occur, in order, without negative ones.
        from_text: whether they are from a table of text, such as CSV, which does not tell numbers from names.
    """

    values: tuple[int, ...]
    from_text: bool


def plain_labels(dataset: Dataset, label: str, from_text: bool) -> PlainLabels:
    """Return the labels of a column of whole numbers or booleans."""
    values = {value for value in raw_values(dataset, label) if value is not None and value >= 0}
    return PlainLabels(tuple(sorted(values)), from_text)


def match_plain(labels: PlainLabels, id2label: Mapping[int, str]) -> tuple[dict[int, int] | None, str | None]:
    """Return the model's id of each label if labels are names of its classes, or None if they are ids, and a note.

    They are names if all of them are among the names of the model. Where all are ids, too, and mean other classes,
    only those from a table of text are names. A note says so, and which classes booleans are that are not names.
    """
    model = {int(index): _spelled(name) for index, name in id2label.items()}
    found = {value: [index for index in model if model[index] == _spelled(str(value))] for value in labels.values}
    ids = {value: indices[0] for value, indices in found.items() if len(indices) == 1}
    are_booleans = any(isinstance(value, bool) for value in labels.values)
    if len(ids) < len(labels.values):
        classes = [f"{value} is class {int(value)} ({id2label.get(int(value))})" for value in labels.values]
        note = f"labels are booleans, and not the names of the model's classes, so {' and '.join(classes)}"
        return None, note if are_booleans else None
    differing = next((value for value in labels.values if ids[value] != value), None)
    if differing is None or are_booleans or not all(value in model for value in labels.values):
        return ids, None
    both = f"label {differing} is the number of class {id2label[differing]!r} and the name of class {ids[differing]}"
    if labels.from_text:
        return ids, f"{both}; labels in a table of text are read as names"
    return None, f"{both}; labels that are stored as numbers are read as numbers, so store names as text"


def match_classes(names: Sequence[str] | None, id2label: Mapping[int, str], where: str) -> dict[int, int] | None:
    """Return the model's id of each class in `names`, by its place, or None to keep the ids of the data.

    Names are compared without case. Names such as LABEL_0 and LABEL_1 in the model are not class names, but data whose
    classes are called "0", "1", ... (or LABEL_0, ...) can be matched to them.

    Args:
        id2label: class names of the model.
        where: source of the data, for error messages.

    Raises:
        DataError: the model has class names, and one of `names` is not among them, or is there twice.
    """
    if names is None:
        return None
    model = {int(index): folded_name(name) for index, name in id2label.items()}
    keys = [folded_name(name) for name in names]
    if keys == [model[index] for index in sorted(model)]:
        return dict(enumerate(sorted(model)))
    unnamed = are_unnamed(model)
    ids = {name: [index for index in model if model[index] == name] for name in model.values()}
    if unnamed:
        ids |= {str(index): [index] for index in model}
    unmatched = [name for name, key in zip(names, keys, strict=True) if len(ids.get(key, ())) != 1]
    if not unmatched:
        return {place: ids[key][0] for place, key in enumerate(keys)}
    if unnamed:
        return None
    unused = [id2label[index] for index in model if model[index] not in keys]
    raise DataError(
        f"{where}: {listed_names(unmatched)} cannot be matched to the model's classes (others of the model: "
        f"{listed_names(unused)}); rename them in the data, or correct id2label in the model's config.json"
    )


def alphabetical_order(names: Sequence[str], classes: int, where: str) -> str:
    """Return a line that says which ids names get that have none, for a model whose classes have no names.

    Args:
        names: class names of the data, in alphabetical order.
        classes: number of classes of the model.
        where: source of the data, for error messages.

    Raises:
        DataError: the model has another number of classes.
    """
    if len(names) > classes:
        raise DataError(
            f"{where}: {counted(len(names), 'class')}, from {names[0]!r} to {names[-1]!r}, but the model has"
            f" {counted(classes, 'class')}; {OTHER_TASK}"
        )
    if len(names) < classes:
        raise DataError(
            f"{where}: {counted(len(names), 'class name')}, and {counted(classes, 'class')} {UNKNOWN_ORDER}"
        )
    return (
        "config.json of the model has no class names (id2label), so the classes are taken in alphabetical order, from"
        f" {names[0]!r} as 0 to {names[-1]!r} as {len(names) - 1}"
    )


def _spelled(name: str) -> str:
    """Return a name as the number or boolean that a table of text makes of it is written: "1" for "01"."""
    folded = folded_name(name)
    return str(int(folded)) if re.fullmatch(r"[+-]?\d+", folded) else folded
