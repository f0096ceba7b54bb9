"""The columns of a dataset that hold images, texts and labels, and the names of its classes."""

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import PIL.Image
from datasets import ClassLabel, Dataset, Image, Value

from transfuse.data.column_kinds import contents, could_be_image, could_be_label, holds_bytes, is_string
from transfuse.errors import DataError

AVIF = {".avif"} if find_spec("PIL.AvifImagePlugin") else set()  # from Pillow 11.3
IMAGE_SUFFIXES = frozenset(
    {".apng", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"}
    | {".pnm", ".ppm", ".tif", ".tiff", ".webp", *AVIF}
)
LABEL_NAMES = ("label", "labels", "fine_label", "target", "class", "y")
TEXT_NAMES = ("text", "sentence", "content")
MAX_LISTED = 8  # names in a message


def with_image_feature(dataset: Dataset, folder: Path, where: str, column: str | None) -> tuple[Dataset, str | None]:
    """Return `dataset` with its image column, if it has one, as an `Image` feature, and why it cannot be read, if so.

    An `Image` feature is preferred to encoded bytes, and those to file names, which are relative to `folder`. Images
    cannot be read if two columns may be the image column, or a named file is missing.

    Args:
        where: source of the data, for error messages.
        column: the image column; None: the only one that can be it. Other columns of images are dropped.

    Raises:
        DataError: the column that was asked for holds no images.
    """
    if column is None:
        candidates = _candidates(dataset)
        if len(candidates) > 1:
            return dataset, f"{where}: {listed_names(candidates)} could each be the image; choose one with image_column"
        column = _only(candidates)
    else:
        check_column(dataset, column, "image", could_be_image, where)
        dataset = dataset.remove_columns([name for name in _image_features(dataset) if name != column])
    if column is None or column in _image_features(dataset):
        return dataset, None
    if is_string(dataset.features[column]):
        return _with_resolved_paths(dataset, column, folder, where)
    return dataset.cast_column(column, Image()), None


def image_column(dataset: Dataset) -> str | None:
    """Return the column with an `Image` feature, if there is one."""
    return next(iter(_image_features(dataset)), None)


def label_column(dataset: Dataset) -> str | None:
    """Return the label column: one with a usual name, else the only `ClassLabel`, else the only name in "_label"."""
    features = dataset.features
    named = [name for name, feature in features.items() if could_be_label(feature)]
    usual = preferred(named, LABEL_NAMES)
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    suffixed = [name for name in named if name.lower().endswith("_label")]
    return usual or _only(classes) or _only(suffixed)


def text_column(dataset: Dataset, label: str | None) -> str | None:
    """Return the text column: one with a usual name, else the only string column that is not the label."""
    strings = [name for name, feature in dataset.features.items() if is_string(feature) and name != label]
    return preferred(strings, TEXT_NAMES) or _only(strings)


def check_column(dataset: Dataset, column: str | None, holds: str, fits: Callable[[Any], bool], where: str) -> None:
    """Raise `DataError` if a column was named and is missing, or does not hold what it should.

    Args:
        holds: what the column should hold, which is the first part of the option's name.
        fits: whether a column of some kind can hold it.
        where: source of the data.
    """
    if column is None:
        return
    if column not in dataset.features:
        raise DataError(f"{where}: no column {column!r} ({holds}_column); it has {listed_names(dataset.column_names)}")
    if not fits(dataset.features[column]):
        found = [name for name, feature in dataset.features.items() if fits(feature)]
        raise DataError(
            f"{where}: column {column!r} ({holds}_column) holds {contents(dataset.features[column])}, not {holds}s;"
            f" these hold {holds}s: {listed_names(found)}"
        )


def class_names(dataset: Dataset, label: str) -> tuple[str, ...] | None:
    """Return the class names in order of id: those of a `ClassLabel`, or sorted strings; None for plain numbers."""
    feature = dataset.features[label]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    if is_string(feature):
        return tuple(sorted(set(raw_values(dataset, label)) - {None, ""}))
    return None


def raw_values(dataset: Dataset, column: str) -> list[Any]:
    """Return a column as it is stored; an image is a dict of `bytes` and `path`, not decoded.

    Raises:
        DataError: a text is not UTF-8.
    """
    try:
        return dataset.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    except UnicodeDecodeError as error:  # some readers do not check texts
        raise DataError(f"column {column!r}: a text is not valid UTF-8 ({error.reason}); repair it") from error


def decoded_image(value: dict[str, Any] | None, feature: Image) -> PIL.Image.Image:
    """Return the image stored as `value`, read from disk if only its path is stored, never from the network.

    Raises:
        ValueError: there is no image, or it is stored elsewhere.
    """
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise ValueError("there is none")
    if value["bytes"] is None and "://" in value["path"]:
        raise ValueError("it is not stored with the data")
    return Image(mode=feature.mode).decode_example(value)


def why_no_text(dataset: Dataset, text: str | None) -> str:
    """Return why there is no text column, and what to do.

    Args:
        text: the column of texts, as for `columns_of`.
    """
    empty = [name for name in dataset.column_names if dataset.features[name] == Value("null")]
    if empty:
        return f"all values of {listed_names(empty)} are empty, and no other column holds texts; choose other data"
    usual = preferred(dataset.column_names, TEXT_NAMES)
    if usual is not None and not is_string(dataset.features[usual]):
        found = contents(dataset.features[usual])
        return f"column {usual!r} holds {found}, not texts; choose a column of texts with text_column"
    return (
        f"no text column among {columns_of(dataset, text)}; choose the one to read, or two of pairs, with text_column"
    )


def columns_of(dataset: Dataset, text: str | None) -> str:
    """Return the names of the columns for a message, without the column of texts if it is made of two others."""
    names = [name for name in dataset.column_names if name != text or "," not in name]
    mixed = {name: type(dataset.features[name]).__name__ == "Json" for name in names}
    return _first([repr(name) + " (values of several kinds)" * mixed[name] for name in names])


def _with_resolved_paths(dataset: Dataset, column: str, folder: Path, where: str) -> tuple[Dataset, str | None]:
    paths = [None if path is None else str((folder / path).absolute()) for path in raw_values(dataset, column)]
    problems = (
        f"{where}: row {row} (from 0) names {path}, which is not there; correct column {column!r}"
        for row, path in enumerate(paths)
        if path is not None and not Path(path).is_file()
    )
    return with_values(dataset, column, paths).cast_column(column, Image()), next(problems, None)


def with_values(dataset: Dataset, column: str, values: Sequence[Any]) -> Dataset:
    """Return a dataset with other values in a column, which may be of another kind."""
    original = f"{column} as given"  # removed last: a dataset without columns has no rows
    renamed = dataset.rename_column(column, original).add_column(column, values)
    return renamed.remove_columns(original)


def _candidates(dataset: Dataset) -> list[str]:
    """Return the columns that may be the image column."""
    features = dataset.features
    encoded = [name for name, feature in features.items() if holds_bytes(feature)]
    paths = [name for name, feature in features.items() if is_string(feature) and _holds_paths(dataset, name)]
    return _image_features(dataset) or encoded or paths


def _image_features(dataset: Dataset) -> list[str]:
    return [name for name, feature in dataset.features.items() if isinstance(feature, Image)]


def _holds_paths(dataset: Dataset, column: str) -> bool:
    values = raw_values(dataset.select(range(min(len(dataset), 10))), column)
    paths = [value for value in values if value is not None]
    return bool(paths) and all(Path(path).suffix.lower() in IMAGE_SUFFIXES and "://" not in path for path in paths)


def preferred(columns: Iterable[str], usual: Sequence[str]) -> str | None:
    """Return the column with the first of the usual names, without case; None if there is none."""
    by_lower_case = {name.lower(): name for name in columns}
    return next((by_lower_case[name] for name in usual if name in by_lower_case), None)


def _only(columns: Sequence[str]) -> str | None:
    return columns[0] if len(columns) == 1 else None


def listed_names(names: Sequence[str]) -> str:
    """Return the first names for a message, and how many more there are."""
    return _first(list(map(repr, names)))


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MAX_LISTED]) or "none"
    return shown + (f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else "")
