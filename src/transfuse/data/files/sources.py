"""Sources of samples: a file, a folder, a saved dataset, one in memory, or the Hub, each opened as one `Dataset`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
from datasets import DatasetDict, concatenate_datasets
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from transfuse.base.counted import are, counted
from transfuse.base.folders import expanded
from transfuse.checkpoint.record.command import DATASET_IN_MEMORY
from transfuse.data.column_kinds import is_string
from transfuse.data.columns import raw_values, with_image_feature
from transfuse.data.files.folder_files import files_in
from transfuse.data.files.image_folders import is_image, read_images
from transfuse.data.files.in_memory import as_dataset, splits_in_memory
from transfuse.data.files.other_files import advice
from transfuse.data.files.readers import KNOWN, READABLE, READERS, is_empty, kind_of, read_files, root_cause
from transfuse.data.files.reading import NamedDataset, Reading, real_paths
from transfuse.data.files.splits import (
    canonical_split,
    group_by_split,
    pick_own_split,
    pick_split,
    sole_split,
    with_joined_split,
    with_split,
)
from transfuse.data.files.text_tables import TEXT_TABLES
from transfuse.errors import DataError

DESCRIPTIONS = ("readme", "license")  # names of .txt files that hold no data
FILE_NAME = "file_name"  # column of a table that names the images, as in `imagefolder`


def open_source(source: Any, reading: Reading) -> NamedDataset:
    """Open `source`, of any kind that `load_samples` or `as_dataset` lists; only the Hub and streams need the network.

    Raises:
        DataError: there is no such source or split, or nothing in it can be read.
    """
    if not isinstance(source, str | Path):
        return _from_memory(source, reading, Path(), DATASET_IN_MEMORY)
    path = expanded(source)
    if path.is_dir():
        return _from_folder(path, reading)
    if path.exists():
        return _from_files(path, {"": [path]}, reading)
    if (
        isinstance(source, Path)
        or kind_of(path) in READERS
        or not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?(:[\w.+-]+)?(@[\w./-]+)?", source)
    ):
        raise DataError(f"{source}: no such file or folder; check the path")
    return _from_hub(source, reading)


def _from_memory(data: Any, reading: Reading, folder: Path, where: str) -> NamedDataset:
    splits = with_joined_split({name: [split] for name, split in splits_in_memory(data).items()}, reading.split)
    if not splits:
        raise DataError(f"{where}: it has no splits; nothing to read")
    chosen = pick_split(splits, reading.split, where)
    name = with_split(where, chosen)
    parts = [as_dataset(split, name) for split in splits[chosen]]
    dataset, part = parts[0]
    if len(parts) > 1:
        part = next((part for _, part in parts if part), "")
        try:
            dataset = concatenate_datasets([dataset for dataset, _ in parts])
        except Exception as error:
            raise DataError(f"{name}: its splits do not have the same columns: {root_cause(error)}") from error
    suffix = f", {part}" if part else ""
    files = real_paths(entry["filename"] for entry in dataset.cache_files)
    dataset, problem = with_image_feature(dataset, folder, name + suffix, reading.image)
    return NamedDataset(dataset, name + suffix, where + suffix, chosen or None, files=files, image_problem=problem)


def _from_hub(source: str, reading: Reading) -> NamedDataset:
    name, _, revision = source.partition("@")
    name, _, config = name.partition(":")
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
        data = datasets.load_dataset(*filter(None, (name, config)), revision=revision or None)
    except Exception as error:
        cause = root_cause(error)
        advice_on_config = f"; write {name}:CONFIG" if cause.startswith("Config name is missing") else ""
        raise DataError(f"{name}: the Hub's dataset cannot be loaded: {cause}{advice_on_config}") from error
    return _from_memory(data, reading, Path(), source)


def _is_cached(name: str) -> bool:
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    return cache.is_dir() and _without_separators(name) in {_without_separators(path.name) for path in cache.iterdir()}


def _without_separators(name: str) -> str:
    return re.sub(r"[_/-]", "", name).lower()


def _from_folder(folder: Path, reading: Reading) -> NamedDataset:
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return _from_saved(folder, None, reading)
    files = files_in(folder)
    images = list(filter(is_image, files))
    tables = [path for path in files if kind_of(path) in READERS and kind_of(path) != ".txt"]
    metadata = [path for path in tables if path.stem == "metadata"]
    texts = [p for p in files if kind_of(p) == ".txt" and p.name.lower().split(".")[0] not in DESCRIPTIONS]
    if images and not tables:
        return read_images(folder, files, reading.split)
    saved = sorted({path.parent for path in files if kind_of(path) == ".arrow"})
    if saved and not images + tables and all((path / "state.json").is_file() for path in saved):
        return _from_saved(folder, group_by_split(folder, saved, reading.split), reading)
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
    if images and chosen == [folder / chosen[0].name] and (found := _from_metadata(folder, chosen[0], reading)):
        return found
    found = _from_files(folder, group_by_split(folder, chosen, reading.split), reading)
    return replace(found, notes=_left_out(texts)) if tables and not images else found


def _left_out(texts: list[Path]) -> tuple[str, ...]:
    """Return a line on the .txt files beside tables, if there are any."""
    if not texts:
        return ()
    are_left_out = f"{counted(len(texts), 'file')} {are(len(texts))} left out"
    return (f"{are_left_out}, of a kind that is not read beside tables ({len(texts)} .txt)",)


def _from_metadata(folder: Path, table: Path, reading: Reading) -> NamedDataset | None:
    """Read a table of images that all lie in folders of splits; None if they do not."""
    dataset = read_files([table], reading.lines)
    paths = raw_values(dataset, FILE_NAME) if is_string(dataset.features.get(FILE_NAME)) else []
    rows: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        parents = Path(path or "").parent.parts
        rows.setdefault(next(filter(None, map(sole_split, parents)), ""), []).append(row)
    if not rows or "" in rows:
        return None
    data = DatasetDict({split: dataset.select(numbers) for split, numbers in rows.items()})
    found = _from_memory(data, reading, folder, str(folder))
    return replace(found, files=real_paths([table]), is_text=kind_of(table) in TEXT_TABLES)


def _from_saved(folder: Path, splits: Mapping[str, list[Path]] | None, reading: Reading) -> NamedDataset:
    """Read what `save_to_disk` wrote to a folder, or to its subfolders.

    Args:
        splits: the subfolders of each split; None: the folder itself is what was saved.
    """
    try:
        if splits is None:
            data = datasets.load_from_disk(str(folder))
        else:
            data = DatasetDict(
                {
                    split: concatenate_datasets([datasets.load_from_disk(str(path)) for path in paths])
                    for split, paths in splits.items()
                }
            )
        return _from_memory(data, reading, folder, str(folder))
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{folder}: the saved dataset cannot be read: {root_cause(error)}") from error


def _from_files(source: Path, splits: Mapping[str, Sequence[Path]], reading: Reading) -> NamedDataset:
    splits = with_joined_split(splits, reading.split)
    chosen, split = pick_own_split(splits, reading.split, source, canonical_split(source.name))
    name = with_split(str(source), chosen)
    parents = sorted({path.parent for path in splits[chosen]})
    parts = []
    for parent in parents:
        files = [path for path in splits[chosen] if path.parent == parent and not is_empty(path)]
        if files:
            parts.append(with_image_feature(read_files(files, reading.lines), parent, name, reading.image))
    if not parts:
        raise DataError(f"{name}: empty; no rows in it")
    try:
        dataset = concatenate_datasets([part for part, _ in parts])
    except Exception as error:
        raise DataError(f"{name}: its files do not have the same columns: {root_cause(error)}") from error
    is_text = kind_of(splits[chosen][0]) in TEXT_TABLES
    paths = real_paths(splits[chosen])
    problem = next((problem for _, problem in parts if problem is not None), None)
    return NamedDataset(dataset, name, str(source), split or None, files=paths, is_text=is_text, image_problem=problem)
