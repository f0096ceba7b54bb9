"""What the columns of a dataset are: which holds the images, the texts, the labels, and what the classes are called."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
from datasets import ClassLabel, Dataset, Image, Value

from transfuse.errors import DataError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
LABEL_NAMES = ("label", "labels", "fine_label", "target", "class", "y")
TEXT_NAMES = ("text", "sentence", "content")
STRINGS = ("string", "large_string")


def with_image_feature(dataset: Dataset, folder: Path, where: str) -> Dataset:
    """`dataset` with its image column, if it has one, as an `Image` feature.

    An `Image` feature is preferred to encoded bytes, and those to file names, which are taken relative to `folder`.

    Raises:
        DataError: two columns are equally likely, or a named file is missing.
    """
    features = dataset.features
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    encoded = [name for name, feature in features.items() if _holds_bytes(feature)]
    paths = [name for name, feature in features.items() if _is_string(feature) and _holds_paths(dataset, name)]
    likely = images or encoded or paths
    if len(likely) > 1:
        raise DataError(
            f"{where}: {_listed(likely)} could each be the image; keep one and drop the others (Dataset.remove_columns)"
        )
    if encoded and not images:
        return dataset.cast_column(encoded[0], Image())
    if paths and not images:
        return _with_resolved_paths(dataset, paths[0], folder, where)
    return dataset


def image_column(dataset: Dataset) -> str | None:
    """The column with an `Image` feature."""
    return next((name for name, feature in dataset.features.items() if isinstance(feature, Image)), None)


def label_column(dataset: Dataset) -> str | None:
    """The class label: a usual name first, then the only `ClassLabel`, then the only column ending in "_label"."""
    features = dataset.features
    named = [name for name, feature in features.items() if _could_be_label(feature)]
    usual = _preferred(named, LABEL_NAMES)
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    suffixed = [name for name in named if name.lower().endswith("_label")]
    return usual or _only(classes) or _only(suffixed)


def text_column(dataset: Dataset, label: str | None) -> str | None:
    """The text: a usual name first, then the only string column that is not the label."""
    strings = [name for name, feature in dataset.features.items() if _is_string(feature) and name != label]
    return _preferred(strings, TEXT_NAMES) or _only(strings)


def class_names(dataset: Dataset, label: str) -> tuple[str, ...] | None:
    """Names of the classes in id order: a `ClassLabel`'s own, sorted values of strings, None for plain numbers."""
    feature = dataset.features[label]
    if isinstance(feature, ClassLabel):
        return tuple(feature.names)
    if _is_string(feature):
        return tuple(sorted(set(raw_values(dataset, label)) - {None}))
    return None


def raw_values(dataset: Dataset, column: str) -> list[Any]:
    """A column as stored: nothing is decoded, so an image is a dict of `bytes` and `path`. Raises `DataError`."""
    try:
        return dataset.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    except UnicodeDecodeError as error:  # some formats are read without a look at what texts hold
        raise DataError(f"column {column!r}: a value is no text in UTF-8 ({error.reason}); repair it") from error


def decoded_image(value: dict[str, Any] | None, feature: Image) -> PIL.Image.Image:
    """The image stored as `value`; from the disk, never the network, if only its path is stored."""
    if value is None or (value["bytes"] is None and value["path"] is None):
        raise ValueError("there is none")
    if value["bytes"] is None and "://" in value["path"]:
        raise ValueError("it is not stored with the data")
    return Image(mode=feature.mode).decode_example(value)


def match_classes(names: Sequence[str] | None, id2label: Mapping[int, str], where: str) -> tuple[int, ...] | None:
    """The model's id of each class in `names`, or None where the ids of the data are to be kept.

    Names are compared without case. A model whose classes are called LABEL_0, LABEL_1, ... names none of them;
    data whose classes are called "0", "1", ... (or LABEL_0, ...) still says which is which.

    Raises:
        DataError: the model names its classes and does not know, or has twice, one of `names`.
    """
    if names is None:
        return None
    model = {int(index): _folded(name) for index, name in id2label.items()}
    wanted = [_folded(name) for name in names]
    if wanted == [model[index] for index in sorted(model)]:
        return tuple(sorted(model))
    unnamed = all(re.fullmatch(rf"label_{index}", name) for index, name in model.items())
    ids = {name: [index for index in model if model[index] == name] for name in model.values()}
    if unnamed:
        ids |= {str(index): [index] for index in model}
    unmatched = [name for name, key in zip(names, wanted, strict=True) if len(ids.get(key, ())) != 1]
    if not unmatched:
        return tuple(ids[key][0] for key in wanted)
    if unnamed:
        return None
    unused = [id2label[index] for index in model if model[index] not in wanted]
    raise DataError(
        f"{where}: {_listed(unmatched)} cannot be matched to the model's classes (others of the model: "
        f"{_listed(unused)}); rename them in the data, or correct id2label in the model's config.json"
    )


def _with_resolved_paths(dataset: Dataset, column: str, folder: Path, where: str) -> Dataset:
    paths = [None if path is None else str((folder / path).absolute()) for path in raw_values(dataset, column)]
    for row, path in enumerate(paths):
        if path is not None and not Path(path).is_file():
            raise DataError(f"{where}: row {row} (from 0) names {path}, which is not there; correct column {column!r}")
    given = f"{column} as given"  # kept until the end, since a dataset without columns has no rows to add to
    renamed = dataset.rename_column(column, given).add_column(column, paths)
    return renamed.remove_columns(given).cast_column(column, Image())


def _holds_bytes(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"}
    return isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")


def _holds_paths(dataset: Dataset, column: str) -> bool:
    seen = [value for value in raw_values(dataset.select(range(min(len(dataset), 10))), column) if value is not None]
    return bool(seen) and all(Path(path).suffix.lower() in IMAGE_SUFFIXES and "://" not in path for path in seen)


def _is_string(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in STRINGS


def _could_be_label(feature: Any) -> bool:
    if isinstance(feature, ClassLabel) or _is_string(feature):
        return True
    return isinstance(feature, Value) and (feature.dtype == "bool" or "int" in feature.dtype)


def _preferred(columns: Sequence[str], usual: Sequence[str]) -> str | None:
    found = {name.lower(): name for name in columns}
    return next((found[name] for name in usual if name in found), None)


def _only(columns: Sequence[str]) -> str | None:
    return columns[0] if len(columns) == 1 else None


def _folded(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(name) for name in names[:most]) or "none"
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
