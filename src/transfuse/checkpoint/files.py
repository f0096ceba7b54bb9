"""The files of a checkpoint: which hold weights, whether they are whole, their hashes, and what goes with them."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open

from transfuse.base.unique_json import parse_json, read_json
from transfuse.checkpoint.companions import companion_files
from transfuse.errors import CheckpointError, first_line

PicklePolicy = Literal["refuse", "allow"]

SAFETENSORS_NAMES = ("model.safetensors", "model.safetensors.index.json")
PICKLE_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
FLOAT_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FLOAT8_DTYPES = (torch.float8_e4m3fn, torch.float8_e5m2)  # bfloat16 holds the numbers of both
STORED = FLOAT_DTYPES | dict(zip(("F8_E4M3", "F8_E5M2"), FLOAT8_DTYPES, strict=True))


def weight_files(directory: Path, pickle: PicklePolicy = "refuse") -> list[Path]:
    """The files `from_pretrained` would read the weights from; safetensors first, whatever `pickle` says.

    Raises CheckpointError if there are none, only pickles that are refused, or an index that is wrong.
    """
    if (directory / "adapter_config.json").exists():
        raise CheckpointError(
            f"{directory}: holds an adapter (adapter_config.json); merge it into its base model first"
        )
    if any(re.match(r"shard-\d{5}-model-", file.name) for file in directory.iterdir()):
        raise CheckpointError(
            f"{directory}: holds a distributed checkpoint; consolidate it into {SAFETENSORS_NAMES[0]} first"
        )
    if all((directory / name).is_file() for name in SAFETENSORS_NAMES):
        raise CheckpointError(
            f"{directory}: holds {SAFETENSORS_NAMES[0]} and {SAFETENSORS_NAMES[1]}; remove the one that is out of date, as readers take the first"
        )
    for name in SAFETENSORS_NAMES + (PICKLE_NAMES if pickle == "allow" else ()):
        if (directory / name).is_file():
            return _shards(directory / name) if name.endswith(".index.json") else [directory / name]
    pickles = sorted(file.name for file in directory.iterdir() if file.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        raise CheckpointError(
            f"{directory}: only pickle weights ({', '.join(pickles[:3])}), and a pickle can run code; convert them to "
            f"{SAFETENSORS_NAMES[0]}, or pass --allow-pickle if you trust their source (read as {PICKLE_NAMES[0]} only)"
        )
    raise CheckpointError(f"{directory}: no weights; expected {SAFETENSORS_NAMES[0]} or {SAFETENSORS_NAMES[1]}")


def _shards(index: Path) -> list[Path]:
    try:
        names = set(read_json(index)["weight_map"].values())
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: no readable weight_map ({first_line(error)}); restore the file") from error
    suffix = index.name.removesuffix(".index.json").rpartition(".")[2]
    for name in names:  # a link is fine, the hub's cache is made of them; a name that walks elsewhere is not
        if not isinstance(name, str) or re.search(r"[/\\:]", name) or not name.endswith(f".{suffix}"):
            raise CheckpointError(f"{index}: {name!r} is not the name of a .{suffix} file beside it; refused")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: shard {name} is missing; fetch it again")
    if not names:
        raise CheckpointError(f"{index}: weight_map is empty; restore the file")
    return sorted(index.parent / name for name in names)


def stored_dtypes(file: Path) -> dict[str, torch.dtype | None]:
    """By name the floating-point dtype of each tensor in `file`, None for one of whole numbers.

    Read without the data, once the file is found to be as large as its header says. Raises `CheckpointError`.
    """
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                _header(file)
                kinds = {name: opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
                return {name: STORED.get(kind) for name, kind in kinds.items()}
        tensors = torch.load(file, map_location="meta", weights_only=True).items()
        return {name: tensor.dtype if tensor.dtype.is_floating_point else None for name, tensor in tensors}
    except Exception as error:  # torch.load has no error of its own: anything may come out of a damaged pickle
        raise CheckpointError(
            f"{file}: damaged, or holds more than tensors ({first_line(error)}); restore it"
        ) from error


def _header(file: Path) -> object:
    """The header of a safetensors file, each key once: the library takes the last of several."""
    with file.open("rb") as stream:
        return parse_json(stream.read(int.from_bytes(stream.read(8), "little")).decode("utf-8"))


def file_hashes(path: Path) -> dict[str, str]:
    """SHA-256, in hexadecimal, of config.json and of each weight file in the directory `path`, by file name."""
    hashes = {}
    for file in [path / "config.json", *weight_files(path, "allow")]:
        with file.open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def copy_companions(source: Path, target: Path) -> list[str]:
    """Copy what a user needs beside the weights (preprocessor, tokenizer, generation settings); return the names.

    Only names known to be such are copied: never weights, config.json, code or a model card.
    """
    names = companion_files(source)
    for name in names:
        (target / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, target / name)
    return names
