"""Labels that are stored as fractions: whole numbers are classes, and others say why there are none."""

from collections.abc import Sequence

from datasets import Dataset

from transfuse.data.column_kinds import could_be_label, is_number
from transfuse.data.columns import LABEL_NAMES, columns_of, label_column, preferred, raw_values, with_values
from transfuse.errors import DataError, NoLabelsError

LARGEST = 2**53  # up to which every whole number has a fraction of 64 bits


def with_whole_labels(dataset: Dataset, chosen: str | None) -> Dataset:
    """Return a dataset whose labels are whole numbers if they were stored as fractions, as 1.0 is. Empty cells stay.

    Args:
        chosen: the column of labels; None: one with a usual name, if no other column holds labels.
    """
    column = _fractions(dataset, chosen) if chosen is not None or label_column(dataset) is None else None
    if column is None:
        return dataset
    values = raw_values(dataset, column)
    if not all(map(_is_whole, values)):
        return dataset
    return with_values(dataset, column, [None if _is_empty(value) else int(value) for value in values])


def no_labels_error(
    dataset: Dataset, chosen: str | None, text: str | None, rows: Sequence[int], source: str
) -> DataError:
    """Return the error that says why a dataset has no column of classes.

    Args:
        chosen: the column of labels that was asked for.
        text: the column of texts, as for `columns_of`.
        rows: row of each sample in the source.
        source: name of the data.
    """
    if column := _fractions(dataset, chosen):
        values = raw_values(dataset, column)
        wrong = next((index for index, value in enumerate(values) if not _is_whole(value)), None)
        where = "has fractional cells" if wrong is None else f"holds {values[wrong]:g} in row {rows[wrong]} (from 0)"
        return DataError(
            f"{source}: column {column!r} {where}, so its numbers are not classes; correct or remove such rows"
        )
    if chosen is not None:
        return DataError(
            f"{source}: column {chosen!r} (label_column) holds no classes, but the model predicts one class of several;"
            " name a column of classes"
        )
    return NoLabelsError(f"{source}: no class label among {columns_of(dataset, text)}; name that column 'label'")


def _fractions(dataset: Dataset, chosen: str | None) -> str | None:
    """Return the column of labels if it holds fractions, and something at all."""
    floats = [name for name, feature in dataset.features.items() if is_number(feature) and not could_be_label(feature)]
    column = preferred(floats, LABEL_NAMES) if chosen is None else chosen if chosen in floats else None
    is_empty = column is None or all(_is_empty(value) for value in raw_values(dataset, column))
    return None if is_empty else column


def _is_empty(value: float | None) -> bool:
    return value is None or value != value


def _is_whole(value: float | None) -> bool:
    return value is None or value != value or (float(value).is_integer() and abs(value) <= LARGEST)
