"""Sources of samples: a file, a folder, a saved dataset, one in memory, or the Hub, each opened as one `Dataset`."""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
from datasets import ClassLabel, Dataset, Features, Image, concatenate_datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from pyarrow import ArrowException
from pyarrow.parquet import read_metadata

from transfuse.checkpoint.command import DATASET_IN_MEMORY
from transfuse.data.columns import IMAGE_SUFFIXES, with_image_feature
from transfuse.data.in_memory import as_dataset, splits_in_memory
from transfuse.data.other_files import ALIASES, INSTEAD, advice
from transfuse.data.splits import Split, canonical_split, group_by_split, pick_split
from transfuse.data.text_files import escaped, read_texts
from transfuse.errors import DataError

_csv = partial(Dataset.from_csv, keep_default_na=False, na_values=[""])  # a class or a text may be called "None"
READERS: Mapping[str, Callable[[list[str]], Dataset]] = {
    ".parquet": Dataset.from_parquet,
    ".csv": _csv,
    ".tsv": partial(_csv, sep="\t"),
    ".json": Dataset.from_json,
    ".jsonl": Dataset.from_json,
    ".ndjson": Dataset.from_json,
    ".txt": Dataset.from_text,
}
COMPRESSED = (".bz2", ".gz", ".xz", ".zst")  # after the kind of a file; `datasets` reads these as they are
METADATA_FILES = ("dataset_info.json", "dataset_infos.json")  # describe the data but hold none of it
KNOWN = {*INSTEAD, *ALIASES} - {".md"}  # kinds of files that are not read, but with which something can be done
READABLE = f"images, {', '.join(READERS)}, or what save_to_disk writes"


@dataclass(frozen=True)
class Reading:
    """Which part of a source is read, and how.

    Attributes:
        split: a split by name, or in order of preference.
        image: the column of images; None: the only one that can be it.
        lines: whether each line of a .txt file is a text, also if blank lines separate longer texts.
    """

    split: Split
    image: str | None = None
    lines: bool = False


@dataclass(frozen=True)
class NamedDataset:
    """Hold a dataset.

    Attributes:
        dataset: the rows.
        name: name of the data in messages.
        split: the split; None if the source has no splits.
        alphabetical: whether the classes are names of folders, in alphabetical order.
        files: the real paths of the files that hold the rows; empty for rows in memory.
    """

    dataset: Dataset
    name: str
    split: str | None = None
    alphabetical: bool = False
    files: frozenset[str] = frozenset()


def open_source(source: Any, reading: Reading) -> NamedDataset:
    """Open `source`, of any kind that `load_samples` or `as_dataset` lists; only the Hub and streams need the network.

    Raises:
        DataError: there is no such source or split, or nothing in it can be read.
    """
    if not isinstance(source, str | Path):
        return _from_memory(source, reading, Path(), DATASET_IN_MEMORY)
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, reading)
    if path.exists():
        return _from_files(path, {"": [path]}, reading)
    if (
        isinstance(source, Path)
        or kind_of(path) in READERS
        or not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?(@[\w./-]+)?", source)
    ):
        raise DataError(f"{source}: no such file or folder; check the path")
    return _from_hub(source, reading)


def kind_of(path: Path) -> str:
    """Return the suffix that tells the kind of a file, in lower case; ".jsonl" for "texts.jsonl.gz"."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return suffixes[-2] if len(suffixes) > 1 and suffixes[-1] in COMPRESSED else (suffixes or [""])[-1]


def root_cause(error: BaseException) -> str:
    """Return the message of the first cause of `error`, in one line and without a period at its end."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8 ({error.reason})"
    return " ".join(str(error).split())[:200].removesuffix(".") or type(error).__name__


def _from_memory(data: Any, reading: Reading, folder: Path, where: str) -> NamedDataset:
    splits = splits_in_memory(data)
    if not splits:
        raise DataError(f"{where}: it has no splits; nothing to read")
    chosen = pick_split(splits, reading.split, where)
    name = _with_split(where, chosen)
    dataset, part = as_dataset(splits[chosen], name)
    if part:
        name = f"{name}, {part}"
    files = _real_paths(entry["filename"] for entry in dataset.cache_files)
    return NamedDataset(with_image_feature(dataset, folder, name, reading.image), name, chosen or None, files=files)


def _real_paths(paths: Iterable[str | Path]) -> frozenset[str]:
    return frozenset(map(os.path.realpath, paths))


def _with_split(where: str, split: str) -> str:
    return f"{where} (split {split})" if split else where


def _from_hub(source: str, reading: Reading) -> NamedDataset:
    name, _, revision = source.partition("@")
    try:
        HfApi().dataset_info(name, revision=revision or None, timeout=10)
    except RevisionNotFoundError as error:
        raise DataError(f"{name}: the Hub has no revision {revision!r} of this dataset; check its name") from error
    except RepositoryNotFoundError as error:
        raise DataError(f"{name}: no such file or folder here, nor a public dataset on the Hub") from error
    except Exception as error:
        if not _is_cached(name):
            raise DataError(
                f"{name}: no such file or folder here, and the Hub could not be reached ({root_cause(error)})"
            ) from error
    try:
        data = datasets.load_dataset(name, revision=revision or None)
    except Exception as error:
        raise DataError(f"{name}: the Hub's dataset cannot be loaded: {root_cause(error)}") from error
    return _from_memory(data, reading, Path(), source)


def _is_cached(name: str) -> bool:
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    return cache.is_dir() and _without_separators(name) in {_without_separators(path.name) for path in cache.iterdir()}


def _without_separators(name: str) -> str:
    return re.sub(r"[_/-]", "", name).lower()


def _from_folder(folder: Path, reading: Reading) -> NamedDataset:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        try:
            return _from_memory(datasets.load_from_disk(str(folder)), reading, folder, str(folder))
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{folder}: the saved dataset cannot be read: {root_cause(error)}") from error
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path.relative_to(folder))]
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    tables = [path for path in files if kind_of(path) in READERS and kind_of(path) != ".txt"]
    metadata = [path for path in tables if path.stem == "metadata"]
    texts = [path for path in files if kind_of(path) == ".txt"]
    if images and not tables:
        return _from_images(folder, images, reading.split)
    chosen = metadata if images else tables or texts
    if not files or not (images or chosen):
        others = [path for path in files if kind_of(path) in KNOWN]
        if others:
            raise DataError(f"{others[0]}: {advice(others[0], kind_of(others[0]), READABLE)}")
        raise DataError(f"{folder}: no readable file in it; expected {READABLE}")
    if not chosen or len({kind_of(path) for path in chosen}) > 1:
        kinds = ", ".join(sorted({kind_of(path) for path in images[:1] + tables}))
        named = f"call the table that names the images metadata{kind_of(tables[0])}" if images else "keep one kind"
        raise DataError(f"{folder}: holds files of several kinds ({kinds}); give {tables[0]} to read it, or {named}")
    return _from_files(folder, group_by_split(folder, chosen), reading)


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) or part in METADATA_FILES for part in path.parts)


def _from_files(source: Path, splits: Mapping[str, list[Path]], reading: Reading) -> NamedDataset:
    chosen = pick_split(splits, reading.split, str(source))
    name = _with_split(str(source), chosen)
    parents = sorted({path.parent for path in splits[chosen]})
    parts = []
    for parent in parents:
        files = [path for path in splits[chosen] if path.parent == parent and not _is_empty(path)]
        if files:
            parts.append(with_image_feature(_read(files, reading.lines), parent, name, reading.image))
    if not parts:
        raise DataError(f"{name}: empty; no rows in it")
    try:
        dataset = concatenate_datasets(parts)
    except Exception as error:
        raise DataError(f"{name}: its files do not have the same columns: {root_cause(error)}") from error
    split = chosen or canonical_split(source.name) or None
    return NamedDataset(dataset, name, split, files=_real_paths(splits[chosen]))


def _is_empty(path: Path) -> bool:
    """Return whether a file has no bytes, or is a Parquet file without rows, which the reader cannot read."""
    if path.stat().st_size == 0:
        return True
    try:
        return kind_of(path) == ".parquet" and read_metadata(path).num_rows == 0
    except ArrowException:  # the reader says what is wrong
        return False


def _read(files: list[Path], lines: bool) -> Dataset:
    suffix = kind_of(files[0])
    if suffix not in READERS:
        raise DataError(f"{files[0]}: {advice(files[0], suffix, READABLE)}")
    try:
        if suffix == ".txt":
            return read_texts(files, lines)
        return READERS[suffix](escaped(files))
    except Exception as error:
        if "corresponds to no data" in str(error):  # the message of `datasets` for files without rows
            raise DataError(f"{', '.join(map(str, files[:3]))}: empty; no rows in it") from error
        for path in files if len(files) > 1 else []:
            _read([path], lines)  # names the file that cannot be read, if there is one
        problem = f"{files[0].parent}: cannot be read together"
        if len(files) == 1:
            problem = f"{files[0]}: cannot be read as {suffix[1:]}"
        if files[0].suffix.lower() == ".zst" and find_spec("zstandard") is None:
            raise DataError(f"{files[0]}: needs the package zstandard; `pip install zstandard` adds it") from error
        raise DataError(f"{problem}: {root_cause(error)}; repair or remove it") from error


def _from_images(folder: Path, images: list[Path], split: Split) -> NamedDataset:
    """Open a folder of images, with the names of subfolders as classes, and as splits if all are names of splits.

    Raises:
        DataError: there is no such split, or an image lies beside a folder of images.
    """
    above = {parent for lowest in {path.parent for path in images} for parent in lowest.parents}
    for path in images:
        if path.parent in above:
            raise DataError(
                f"{path}: lies beside folders of images, so it has no class or split; move it into one of them, or"
                " remove it"
            )
    subfolders = {path.relative_to(folder).parts[0] if path.parent != folder else "" for path in images}
    has_splits = all(canonical_split(name) for name in subfolders)
    splits: dict[str, list[Path]] = {}
    for path in images:
        subfolder = path.relative_to(folder).parts[0]
        splits.setdefault(canonical_split(subfolder) if has_splits else "", []).append(path)
    chosen = pick_split(splits, split, str(folder))
    columns: dict[str, list[str] | list[int]] = {"image": [str(path.absolute()) for path in splits[chosen]]}
    features = {"image": Image()}
    classes = sorted({path.parent.name for path in images})
    if len(classes) > 1 and len({len(path.parts) for path in images}) == 1:
        columns["label"] = [classes.index(path.parent.name) for path in splits[chosen]]
        features["label"] = ClassLabel(names=classes)
    name = _with_split(str(folder), chosen)
    dataset = Dataset.from_dict(columns, features=Features(features))
    return NamedDataset(dataset, name, chosen or None, True, _real_paths(splits[chosen]))
