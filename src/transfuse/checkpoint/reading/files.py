"""The files of a checkpoint: which of them hold weights, whether they are complete, and their hashes."""

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from transfuse.base.unique_json import parse_json, read_json
from transfuse.checkpoint.reading.companions import (
    ADAPTER_CONFIG,
    CONFIG,
    PICKLE_NAMES,
    PICKLE_SUFFIXES,
    SAFETENSORS_NAMES,
    companion_files,
)
from transfuse.checkpoint.reading.hub_names import CACHED
from transfuse.checkpoint.reading.other_kinds import check_holds_model
from transfuse.errors import CheckpointError, first_line

PicklePolicy = Literal["refuse", "allow"]

FLOAT_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FLOAT8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)  # bfloat16 holds all values of both
STORED_DTYPES = FLOAT_DTYPES | dict(zip(("F8_E4M3", "F8_E5M2"), FLOAT8_DTYPES, strict=True))


_HASHES_OF_SOURCES: dict[Path, dict[str, str]] = {}  # by temporary folder


def checked_json(file: Path) -> Any:
    """Return the content of a JSON file of a checkpoint. Raise `CheckpointError` if it cannot be read."""
    try:
        return read_json(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not readable as JSON ({first_line(error)}); restore the file") from error


def weight_files(folder: Path, pickle: PicklePolicy = "refuse") -> list[Path]:
    """Return the files that `from_pretrained` reads weights from; safetensors come first, whatever `pickle` is.

    Raises:
        CheckpointError: there are no weights, only pickles that are refused, or the index is wrong.
    """
    single, index = SAFETENSORS_NAMES
    if (folder / ADAPTER_CONFIG).exists():
        raise CheckpointError(
            f"{folder}: holds a model and an adapter ({ADAPTER_CONFIG}), so that it is unclear which is meant; merge"
            " it into the model first, or remove one"
        )
    if any(re.match(r"shard-\d{5}-model-", file.name) for file in folder.iterdir()):
        raise CheckpointError(f"{folder}: holds a distributed checkpoint; consolidate it into {single} first")
    if (folder / single).is_file() and (folder / index).is_file():
        raise CheckpointError(
            f"{folder}: holds {single} and {index}; remove the one that is out of date, as readers take the first"
        )
    for name in SAFETENSORS_NAMES + (PICKLE_NAMES if pickle == "allow" else ()):
        if (folder / name).is_file():
            return _shards(folder / name) if name.endswith(".index.json") else [folder / name]
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise CheckpointError(
            f"{folder}: only pickle weights ({', '.join(pickles[:3])}), and a pickle can run code; convert them to "
            f"{single}, or pass --allow-pickle if you trust their source (read as {PICKLE_NAMES[0]} only)"
        )
    check_holds_model(folder)
    fetched = pickle == "refuse" and CACHED.search(str(folder))
    advice = "; if the Hub has pickled ones and you trust their source, pass --allow-pickle" if fetched else ""
    raise CheckpointError(f"{folder}: no weights; expected {single} or {index}{advice}")


def _shards(index: Path) -> list[Path]:
    """Return the files that an index lists, each a file beside the index.

    Files may be links, as they are in the Hub's cache, but a name must not lead out of the folder.
    """
    try:
        names = set(read_json(index)["weight_map"].values())
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: no readable weight_map ({first_line(error)}); restore the file") from error
    suffix = index.name.removesuffix(".index.json").rpartition(".")[2]
    for name in names:
        if not isinstance(name, str) or re.search(r"[/\\:]", name) or not name.endswith(f".{suffix}"):
            raise CheckpointError(f"{index}: {name!r} is not the name of a .{suffix} file beside it; refused")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: shard {name} is missing; fetch it again")
    if not names:
        raise CheckpointError(f"{index}: weight_map is empty; restore the file")
    return sorted(index.parent / name for name in names)


def stored_dtypes(file: Path) -> dict[str, torch.dtype | None]:
    """Return the dtype of each tensor in a weight file by name; None for integers.

    The data is not read, but the file must be as large as its header says.

    Raises:
        CheckpointError: the file is damaged or incomplete, or a pickle holds more than tensors.
    """
    state = "damaged or incomplete" if file.suffix == ".safetensors" else "damaged, or holds more than tensors"
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy") as opened:  # which maps the file only for reading
                _check_header(file)
                kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
                return {name: STORED_DTYPES.get(kind) for name, kind in kinds.items()}
        tensors = torch.load(file, map_location="meta", weights_only=True).items()
        return {name: tensor.dtype if tensor.dtype.is_floating_point else None for name, tensor in tensors}
    except Exception as error:  # torch.load may raise anything for a damaged pickle
        raise CheckpointError(f"{file}: {state} ({first_line(error)}); restore it") from error


def stored_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a safetensors file, by name."""
    with safe_open(file, framework="numpy") as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


def _check_header(file: Path) -> None:
    """Raise ValueError if a key appears twice in the header of a safetensors file; the library takes the last one."""
    with file.open("rb") as stream:
        parse_json(stream.read(int.from_bytes(stream.read(8), "little")).decode("utf-8"))


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256, in hexadecimal, of config.json and of each weight file in a folder, by file name.

    For a folder with a merged adapter, these are the hashes of what it was made from.
    """
    recorded = _HASHES_OF_SOURCES.get(folder)
    return recorded or hash_files([folder / CONFIG, *weight_files(folder, "allow")])


def hash_files(files: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file, in hexadecimal, by file name."""
    hashes = {}
    for file in files:
        with file.open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def record_hashes(folder: Path, hashes: dict[str, str]) -> None:
    """Let `file_hashes` of a temporary folder return the hashes of the files that it was made from."""
    _HASHES_OF_SOURCES[folder] = hashes


def copy_companions(source: Path, target: Path) -> list[str]:
    """Copy the files used with the weights (preprocessor, tokenizer, generation settings) and return their names.

    Only files with known names are copied: never weights, config.json, code or a model card.
    """
    names = companion_files(source)
    copy_files(dict.fromkeys(names, source), target)
    return names


def copy_files(sources: Mapping[str, Path], target: Path) -> None:
    """Copy files into a folder, given the folder of each by name. A name that ends with a slash is a folder."""
    for name, source in sources.items():
        (target / name).parent.mkdir(exist_ok=True)
        if name.endswith("/"):
            (target / name).mkdir(exist_ok=True)
        else:
            shutil.copyfile(source / name, target / name)
