"""Sources of samples: a file, a folder, a saved dataset, one in memory, or the Hub, each opened as one `Dataset`."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets import ClassLabel, Dataset, Features, Image, concatenate_datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from transfuse.checkpoint.command import DATASET_IN_MEMORY
from transfuse.data.columns import IMAGE_SUFFIXES, with_image_feature
from transfuse.data.in_memory import as_dataset, splits_in_memory
from transfuse.data.other_files import advice
from transfuse.data.readers import KNOWN, READABLE, READERS, is_empty, kind_of, read_files, root_cause
from transfuse.data.splits import Split, canonical_split, group_by_split, pick_split
from transfuse.data.text_tables import TEXT_TABLES
from transfuse.errors import DataError

METADATA_FILES = ("dataset_info.json", "dataset_infos.json")  # describe the data but hold none of it


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
        is_text: whether they are tables of text, which do not tell numbers from names.
    """

    dataset: Dataset
    name: str
    split: str | None = None
    alphabetical: bool = False
    files: frozenset[str] = frozenset()
    is_text: bool = False


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
        files = [path for path in splits[chosen] if path.parent == parent and not is_empty(path)]
        if files:
            parts.append(with_image_feature(read_files(files, reading.lines), parent, name, reading.image))
    if not parts:
        raise DataError(f"{name}: empty; no rows in it")
    try:
        dataset = concatenate_datasets(parts)
    except Exception as error:
        raise DataError(f"{name}: its files do not have the same columns: {root_cause(error)}") from error
    split = chosen or canonical_split(source.name) or None
    is_text = kind_of(splits[chosen][0]) in TEXT_TABLES
    return NamedDataset(dataset, name, split, files=_real_paths(splits[chosen]), is_text=is_text)


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
