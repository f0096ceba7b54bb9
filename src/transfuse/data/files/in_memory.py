"""Samples that a Python program holds: texts, images, rows, data frames, streams and data loaders, as one `Dataset`."""

import os.path
from collections.abc import Mapping, Sequence, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas  # type: ignore[import-untyped]
import PIL.Image
from datasets import Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict, Value, concatenate_datasets
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torch.utils.data import Dataset as TorchDataset

from transfuse.base.counted import counted
from transfuse.data.columns import IMAGE_SUFFIXES
from transfuse.data.files.in_memory_columns import TABLES, from_columns, from_rows, is_missing, type_of
from transfuse.data.files.splits import canonical_split
from transfuse.data.image.pixels import image_advice, storable
from transfuse.errors import DataError, first_line

MAX_ROWS = 100_000  # that are read of a stream
MAX_BYTES = 4 << 30  # that the rows of a stream may take
ROWS_AT_ONCE = 100
ACCEPTED = "give a path, a list of texts, of PIL images or of dicts, a DataFrame, or a dataset of `datasets`"
RAW = "give the texts or images themselves; the model's processor prepares them"
PREPARED_COLUMNS = {"input_ids", "pixel_values"}


def splits_in_memory(data: Any) -> dict[str, Any]:
    """Return samples by split; data without splits stand under ""."""
    if isinstance(data, DatasetDict | IterableDatasetDict):
        return dict(data)
    if isinstance(data, Mapping) and data:
        are_tables = all(isinstance(part, TABLES) for part in data.values())
        are_named = all(isinstance(name, str) and name.isalpha() and canonical_split(name) for name in data)
        if are_tables or are_named:
            return dict(data)
    return {"": data}


def as_dataset(data: Any, where: str) -> tuple[Dataset, str]:
    """Return samples in memory as a dataset, and which part of the samples was read, or "" for all of them.

    Args:
        data: a `Dataset`, or an `IterableDataset`, of which the first `MAX_ROWS` rows are read (fewer if they take more
            than `MAX_BYTES`); a list of texts, PIL images, paths of images, conversations or rows (dicts); a column of
            a `Dataset`; a dict of columns; a pandas `DataFrame` or `Series`; a map-style dataset of torch with such
            items, or a `DataLoader` that reads all of one.
        where: name of the data, for error messages.

    Raises:
        DataError: the data are of another kind, or their rows are not alike.
    """
    if isinstance(data, Dataset):
        dataset, part = data.with_format(None), ""
    elif isinstance(data, IterableDataset):
        dataset, part = _first_rows(data, where)
    elif isinstance(data, pandas.DataFrame):
        dataset, part = _from_frame(data, where), ""
    elif isinstance(data, Mapping):
        dataset, part = from_columns(data, where), ""
    elif isinstance(data, Sequence | pandas.Series) and not isinstance(data, str | bytes):
        dataset, part = _from_items(list(data), where), ""
    elif isinstance(data, DataLoader):
        return as_dataset(_read_by(data, where), where)
    elif isinstance(data, TorchDataset):
        dataset, part = _from_items(_torch_items(data, where), where), ""
    else:
        raise DataError(f"data: {type_of(data)} cannot be read; {image_advice(data) or ACCEPTED}")
    _check_raw(dataset, where)
    return dataset, part


def _first_rows(stream: IterableDataset, where: str) -> tuple[Dataset, str]:
    """Read the rows of a stream up to the limits. Images are not decoded if the features of the stream are known."""
    parts: list[Dataset] = []
    rows = 0
    size = 0
    has_features = stream.features is not None
    chunks = stream.take(MAX_ROWS + 1).with_format("arrow" if has_features else None).iter(ROWS_AT_ONCE)
    try:
        for chunk in chunks:
            parts.append(Dataset(chunk) if has_features else from_columns(chunk, where))
            rows += len(parts[-1])
            size += parts[-1].data.nbytes
            if size > MAX_BYTES:
                break
        dataset = concatenate_datasets(parts) if parts else Dataset.from_dict({})
    except DataError:
        raise
    except Exception as error:  # a stream runs code of its own
        raise DataError(f"{where}: the stream cannot be read: {first_line(error)}") from error
    if rows <= MAX_ROWS and size <= MAX_BYTES:
        return dataset, ""
    dataset = dataset.select(range(min(rows, MAX_ROWS)))
    return dataset, f"first {counted(len(dataset), 'row', ',')} of a stream"


def _from_frame(frame: pandas.DataFrame, where: str) -> Dataset:
    """Read a data frame: NaN is a missing value, and integers with missing values stay integers."""
    frame = frame.rename(columns=str)
    with suppress(UnicodeEncodeError):  # which is reported below
        frame = frame.convert_dtypes()
    for name in frame.columns if frame.columns.is_unique else ():
        if any(isinstance(value, PIL.Image.Image) for value in frame[name].head(ROWS_AT_ONCE)):
            frame[name] = [_encoded(value, where, name, row) for row, value in enumerate(frame[name])]
    try:
        return Dataset.from_pandas(frame, preserve_index=False)
    except Exception as error:  # pyarrow raises many kinds of errors
        if not frame.columns.is_unique:
            raise DataError(f"{where}: the DataFrame cannot be read: {first_line(error)}") from error
    return from_columns({name: [None if is_missing(v) else v for v in frame[name]] for name in frame.columns}, where)


def _encoded(value: Any, where: str, column: str, row: int) -> dict[str, Any] | None:
    if isinstance(value, PIL.Image.Image):
        return Image().encode_example(storable(value))
    if is_missing(value):
        return None
    raise DataError(f"{where}: row {row} (from 0) of column {column!r} holds {type_of(value)}, and others hold images")


def _from_items(items: Sequence[Any], where: str) -> Dataset:
    """Read a list whose items are all texts, images, paths, conversations or rows. Some texts may be missing."""
    if not items:
        return Dataset.from_dict({})
    start = next((row for row, item in enumerate(items) if not is_missing(item)), 0)
    first = items[start]
    kinds = (str, PIL.Image.Image, Path, Mapping, list)
    kind = next((kind for kind in kinds if isinstance(first, kind)), None)
    if kind is None:
        instead = "give a list of texts, of PIL images, or of dicts such as {'text': ..., 'label': ...}"
        raise DataError(f"{where}: item {start} is {type_of(first)}; {image_advice(first) or instead}")
    for row, item in enumerate(items):
        if not isinstance(item, kind) and not (kind in (str, list) and is_missing(item)):
            raise DataError(
                f"{where}: item {row} (from 0) is {type_of(item)}, and item {start} is {type_of(first)};"
                " give items of one kind"
            )
    if kind is Mapping:
        return from_rows(items, where)
    if kind is list:
        return _from_conversations([None if is_missing(item) else item for item in items], where)
    if kind is PIL.Image.Image:
        return from_columns({"image": items}, where)
    for path in [first] if kind is str else items:
        if _is_data_file(path):
            raise DataError(f"{where}: {path} is a file; give one file or folder as a path, not in a list")
        if kind is Path and path.suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(f"{where}: {path} is not an image file; give one file or folder as a path, not in a list")
    texts = [None if is_missing(item) else str(item) for item in items]
    return from_columns({"text" if kind is str else "image": texts}, where)


def _is_data_file(path: str | Path) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    return bool(suffix) and suffix not in IMAGE_SUFFIXES and os.path.isfile(path)


def _from_conversations(items: Sequence[Any], where: str) -> Dataset:
    """Read conversations, whose items are messages."""
    for row, item in enumerate(items):
        for message in item or ():
            if message is not None and not isinstance(message, Mapping):
                raise DataError(
                    f"{where}: item {row} (from 0) is a list with {type_of(message)}; give texts, pairs as dicts such"
                    " as {'text1': ..., 'text2': ...}, or conversations as lists of {'role': ..., 'content': ...}"
                )
    return from_columns({"messages": items}, where)


def _read_by(loader: DataLoader, where: str) -> Any:
    """Return the dataset of a loader that reads all of it."""
    dataset = loader.dataset
    sampler: Any = getattr(loader.batch_sampler, "sampler", None) or loader.sampler
    if isinstance(dataset, IterableDataset):
        return dataset
    whole = type(sampler) in (SequentialSampler, RandomSampler)
    if not whole or not isinstance(dataset, Sized) or len(sampler) != len(dataset):
        raise DataError(
            f"{where}: this DataLoader does not read all samples of a dataset once; give those samples themselves, as"
            " a list of texts, of PIL images or of dicts"
        )
    return dataset


def _torch_items(dataset: Any, where: str) -> list[Any]:
    """Return the items of a map-style dataset of torch, after a look at the first of them."""
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise DataError(f"{where}: {type_of(dataset)} has no length; {ACCEPTED}")
    count = len(dataset)
    for index in range(min(count, 1)):
        first = dataset[index]
        parts = first.values() if isinstance(first, Mapping) else first if isinstance(first, tuple) else [first]
        if isinstance(first, tuple) or any(isinstance(part, Tensor) and part.dim() for part in parts):
            held = "tensors" if any(isinstance(part, Tensor) for part in parts) else "tuples"
            raise DataError(f"{where}: its items are {held}; {RAW} (a list of texts, of PIL images or of dicts)")
    return [dataset[index] for index in range(count)]


def _check_raw(dataset: Dataset, where: str) -> None:
    """Raise `DataError` for columns of a prepared model input, unless there are texts or images beside them."""
    prepared = [name for name in dataset.column_names if name in PREPARED_COLUMNS]
    if prepared and all(_is_numeric(feature) for feature in dataset.features.values()):
        raise DataError(f"{where}: column {prepared[0]!r} holds prepared inputs; {RAW}")


def _is_numeric(feature: Any) -> bool:
    while hasattr(feature, "feature"):  # lists
        feature = feature.feature
    if isinstance(feature, Value):
        return "string" not in feature.dtype and "binary" not in feature.dtype
    return type(feature).__name__.startswith(("Array", "ClassLabel"))
