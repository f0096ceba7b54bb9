"""Adapters of PEFT, merged into their base models: an adapter's folder is read as the merged checkpoint.

The merged checkpoint is an ordinary one in a temporary folder, which is removed when the process ends. Its tensors are
read from files like those of any other model.
"""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from transfuse.base.folders import expanded
from transfuse.base.libraries import quiet
from transfuse.checkpoint.reading.adapted_model import load_base
from transfuse.checkpoint.reading.adapter_merge import merge
from transfuse.checkpoint.reading.companions import (
    ADAPTER_CONFIG,
    ADAPTER_FILES,
    ADAPTER_WEIGHTS,
    LICENSE_PATTERNS,
    companion_files,
    matches_any,
    weight_names,
)
from transfuse.checkpoint.reading.files import (
    checked_json,
    copy_companions,
    file_hashes,
    hash_files,
    record_hashes,
    stored_dtypes,
    stored_shapes,
    weight_files,
)
from transfuse.errors import CheckpointError, first_line

BASE = "base_model_name_or_path"
KEPT_OF_BASE = ("processor_config.json", "generation_config.json")  # although the adapter has a tokenizer

FindFolder = Callable[[str], Path]
"""A function that returns the local folder of a model, given its path or its name on the Hub."""


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter and no model."""
    return (folder / ADAPTER_CONFIG).is_file() and not weight_names(folder)


def merged_folder(folder: Path, find: FindFolder) -> Path:
    """Return a folder with the checkpoint of an adapter that is merged into its base model.

    Each adapter is merged once per process. The hashes of the folder are those of the adapter and of its base.

    Args:
        find: finds the base model; raises `CheckpointError`.

    Raises:
        CheckpointError: peft is not installed, or the adapter or its base is missing, damaged or cannot be merged.
    """
    settings = _settings(folder)
    if importlib.util.find_spec("peft") is None:
        raise CheckpointError(f"{folder}: holds an adapter of PEFT; to merge it into its base model, pip install peft")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: holds {ADAPTER_CONFIG} without {ADAPTER_WEIGHTS}; save the adapter again")
    base = base_folder(folder, find)
    files = [*(folder / name for name in ADAPTER_FILES), *weight_files(base)]
    stamps = tuple(file.stat().st_mtime_ns for file in files)
    return Path(_merge(folder.resolve(), base.resolve(), stamps, str(folder), str(settings[BASE])).name)


def base_folder(folder: Path, find: FindFolder) -> Path:
    """Return the folder of the base model that an adapter names; a relative path may start at the adapter's folder.

    As in PEFT, `revision` is that of the base on the Hub.

    Raises:
        CheckpointError: there is no such model, or it is an adapter too, or its weights are pickled.
    """
    settings = _settings(folder)
    name, revision = settings.get(BASE), settings.get("revision")
    where = f"{folder / ADAPTER_CONFIG}: {BASE} is {name!r}"
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{where}; correct it to the path or the Hub name of the base model")
    path, beside = expanded(name), folder / name
    if not path.is_dir() and beside.is_dir():
        path = beside
    try:
        base = path if path.is_dir() else find(f"{name}@{revision}" if revision else name)
    except CheckpointError as error:
        raise CheckpointError(f"{where}, the base model of this adapter ({error})") from error
    if is_adapter(base):
        raise CheckpointError(f"{where}, which is an adapter too; merge that one into its base first")
    if weight_files(base, "allow")[0].suffix != ".safetensors":
        raise CheckpointError(f"{where}, whose weights are pickled; convert them to model.safetensors first")
    return base


def _settings(folder: Path) -> Mapping[str, Any]:
    """Return the content of adapter_config.json."""
    file = folder / ADAPTER_CONFIG
    settings = checked_json(file)
    if not isinstance(settings, dict):
        raise CheckpointError(f"{file}: holds no settings of an adapter; restore the file")
    return settings


@cache
def _merge(folder: Path, base: Path, stamps: tuple[int, ...], shown: str, shown_base: str) -> TemporaryDirectory[str]:
    """Merge an adapter, and return the temporary folder of the result, which is removed with this object.

    Args:
        stamps: when the files of both were changed, so that a changed adapter or base is merged again.
        shown, shown_base: what to call the adapter and its base in messages.
    """
    settings = _settings(folder)
    stored_dtypes(folder / ADAPTER_WEIGHTS)  # checks that the file is whole
    shapes = stored_shapes(folder / ADAPTER_WEIGHTS)
    with torch.random.fork_rng(devices=[]):  # new layers get random values before those of the adapter
        model = load_base(base, settings, shapes, f"{shown}: its base model {shown_base}")
        merged = merge(model, folder, settings, set(shapes), shown)
    target = TemporaryDirectory(prefix="transfuse-adapter-")
    path = Path(target.name)
    try:
        with quiet():
            merged.save_pretrained(path)
        copy_companions(base, path)
        _copy_own_companions(folder, path)
    except OSError as error:
        raise CheckpointError(
            f"{shown}: the merged model cannot be written to {path.parent} ({first_line(error)}); make room there, or"
            " set TMPDIR to another folder"
        ) from error
    own = hash_files([folder / name for name in ADAPTER_FILES])
    record_hashes(path, own | {f"base/{name}": value for name, value in file_hashes(base).items()})
    return target


def _copy_own_companions(folder: Path, target: Path) -> None:
    """Copy the adapter's tokenizer and processor, and remove the base's tokenizer and templates if it has its own."""
    own = companion_files(folder)
    if "tokenizer_config.json" in own:
        for name in companion_files(target):
            if not name.endswith(KEPT_OF_BASE) and not matches_any(name, LICENSE_PATTERNS):
                (target / name).unlink()
    copy_companions(folder, target)
