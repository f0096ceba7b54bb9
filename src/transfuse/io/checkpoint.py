"""Reading a checkpoint: every file is checked before its weights are believed, and each fault is one line.

transformers fills a gap in a checkpoint with random numbers and drops what it does not know, with a warning at most.
Here both are errors, for a fused model inherits them without a trace.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from transfuse.errors import CheckpointError

PicklePolicy = Literal["refuse", "allow"]

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_COMPANIONS = (
    *(
        "preprocessor_config.json",
        "processor_config.json",
        "image_processor_config.json",
        "video_preprocessor_config.json",
    ),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "normalizer.json"),
    *(
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "bpe.codes",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
    ),
    *("*.tiktoken", "chat_template.json", "chat_template.jinja", "generation_config.json"),
)


def load_model(path: str | Path, dtype: torch.dtype | None = None, pickle: PicklePolicy = "refuse") -> PreTrainedModel:
    """The checkpoint at `path` (a directory, or a name on the hub) as the class its config.json names, in eval mode.

    Weights keep the dtype on disk (where dtypes are mixed, the smallest that holds them all) unless `dtype` is given.
    Code that comes with a checkpoint is never run. Raises CheckpointError unless every tensor the model needs is
    there with its shape and finite, and no other is.
    """
    directory = local_directory(path, pickle)
    config = read_config(directory)
    model_class = _model_class(config, directory)
    files = weight_files(directory, pickle)
    if dtype is None:
        on_disk = [found for file in files for found in _float_dtypes(file)]
        dtype = reduce(torch.promote_types, on_disk) if on_disk else torch.float32
    options = {"config": config, "dtype": dtype, "use_safetensors": files[0].suffix == ".safetensors"}
    # The first pass holds no data: it compares names and shapes before anything as large as the config says is made.
    _from_pretrained(model_class, directory, {**options, "device_map": "meta"})
    model = _from_pretrained(model_class, directory, options)
    check_finite(model.state_dict(), str(directory))
    return model.eval()


def local_directory(path: str | Path, pickle: PicklePolicy = "refuse") -> Path:
    """The directory at `path`; where there is none, `path` is taken as a name on the hub and its files are fetched.

    Raises CheckpointError if neither exists, or if `path` is a file.
    """
    directory = Path(path).expanduser()
    if directory.is_dir():
        return directory
    if directory.exists():
        raise CheckpointError(f"{path}: is a file; give the directory that holds config.json and the weights")
    names = _SAFE + (_PICKLED if pickle == "allow" else ())
    shards = [
        name.replace(".index.json", "").replace(".", "-*-of-*.") for name in names if name.endswith(".index.json")
    ]
    try:
        return Path(snapshot_download(str(path), allow_patterns=["config.json", *names, *shards, *_COMPANIONS]))
    except Exception as error:  # a name the hub forbids, an unknown repository, no network: all mean the same here
        raise CheckpointError(
            f"{path}: no such directory, and the hub could not be reached or has no such model; check the path"
        ) from error


def read_config(directory: Path) -> PreTrainedConfig:
    """The parsed config.json of `directory`. Raises CheckpointError if it is absent, broken, or of no known model."""
    file = directory / "config.json"
    if not file.is_file():
        raise CheckpointError(f"{directory}: no config.json; give a directory written by save_pretrained")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not readable as JSON ({_line(error)}); restore the file") from error
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if not isinstance(model_type, str):
        raise CheckpointError(f"{file}: no model_type; add the one of the model that the weights belong to")
    if model_type not in CONFIG_MAPPING:
        raise CheckpointError(f"{file}: transformers {transformers.__version__} knows no model_type {model_type!r}")
    if raw.get("quantization_config"):
        raise CheckpointError(f"{file}: the weights are quantized; dequantize and save them again first")
    if raw.get("transformers_weights"):
        raise CheckpointError(f"{file}: transformers_weights points elsewhere; remove it and name the file {_SAFE[0]}")
    try:
        with _quiet():
            return AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each config class has its own ways to refuse a value
        raise CheckpointError(f"{file}: not a valid {model_type} config ({_line(error)}); correct the file") from error


def weight_files(directory: Path, pickle: PicklePolicy = "refuse") -> list[Path]:
    """The files `from_pretrained` would read the weights from; safetensors first, whatever `pickle` says.

    Raises CheckpointError if there are none, only pickles that are refused, or an index that is wrong.
    """
    if (directory / "adapter_config.json").exists():
        raise CheckpointError(
            f"{directory}: holds an adapter (adapter_config.json); merge it into its base model first"
        )
    if any(re.match(r"shard-\d{5}-model-", file.name) for file in directory.iterdir()):
        raise CheckpointError(f"{directory}: holds a distributed checkpoint; consolidate it into {_SAFE[0]} first")
    for name in _SAFE + (_PICKLED if pickle == "allow" else ()):
        if (directory / name).is_file():
            return _shards(directory / name) if name.endswith(".index.json") else [directory / name]
    pickles = sorted(file.name for file in directory.iterdir() if file.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        raise CheckpointError(
            f"{directory}: only pickle weights ({', '.join(pickles[:3])}), and a pickle can run code; convert them to "
            f"{_SAFE[0]}, or pass --allow-pickle if you trust their source (read as {_PICKLED[0]} only)"
        )
    raise CheckpointError(f"{directory}: no weights; expected {_SAFE[0]} or {_SAFE[1]}")


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises CheckpointError naming the first of `tensors`, of any shape, that has a NaN or an infinity."""
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        tensor = tensors[bad[0]]
        values = f"{int((~tensor.isfinite()).sum())} of {tensor.numel()} values of {bad[0]}"
        others = f" (and some in {len(bad) - 1} more tensors)" if bad[1:] else ""
        raise CheckpointError(f"{where}: {values}{others} are NaN or infinite in {tensor.dtype}; no model can use them")


def file_hashes(path: Path) -> dict[str, str]:
    """SHA-256, in hexadecimal, of config.json and of each weight file in the directory `path`, by file name."""
    hashes = {}
    for file in [path / "config.json", *weight_files(path, "allow")]:
        with file.open("rb") as stream:
            hashes[file.name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes


def copy_companions(source: Path, target: Path) -> list[str]:
    """Copies what a user needs beside the weights (preprocessor, tokenizer, generation settings); returns the names.

    Only names known to be such are copied: never weights, config.json, code or a model card.
    """
    files = sorted({file for pattern in _COMPANIONS for file in source.glob(pattern) if file.is_file()})
    for file in files:
        shutil.copyfile(file, target / file.name)
    return [file.name for file in files]


def _model_class(config: PreTrainedConfig, directory: Path) -> type:
    if not config.architectures:
        return AutoModel
    name = config.architectures[0]
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise CheckpointError(f"{directory}/config.json: architecture {name!r} is no model of transformers; correct it")
    expected = getattr(found, "config_class", None)
    if expected is None or not isinstance(config, expected):
        raise CheckpointError(f"{directory}/config.json: architecture {name} is not of model_type {config.model_type}")
    return found


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: no readable weight_map ({_line(error)}); restore the file") from error
    suffix = index.name.removesuffix(".index.json").rpartition(".")[2]
    for name in names:  # a link is fine, the hub's cache is made of them; a name that walks elsewhere is not
        if not isinstance(name, str) or re.search(r"[/\\:]", name) or not name.endswith(f".{suffix}"):
            raise CheckpointError(f"{index}: {name!r} is not the name of a .{suffix} file beside it; refused")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"{index}: shard {name} is missing; fetch it again")
    if not names:
        raise CheckpointError(f"{index}: weight_map is empty; restore the file")
    return sorted(index.parent / name for name in names)


def _float_dtypes(file: Path) -> set[torch.dtype]:
    """Floating-point dtypes in `file`, read without its data, once its size is found to be what its header says."""
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                kinds = {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118 (no mapping)
                return {_FLOATS[kind] for kind in kinds if kind in _FLOATS}
        tensors = torch.load(file, map_location="meta", weights_only=True).values()
        return {tensor.dtype for tensor in tensors if tensor.dtype.is_floating_point}
    except Exception as error:  # torch.load has no error of its own: anything may come out of a damaged pickle
        raise CheckpointError(f"{file}: damaged, or holds more than tensors ({_line(error)}); restore it") from error


def _from_pretrained(model_class: Any, directory: Path, options: dict[str, Any]) -> PreTrainedModel:
    try:
        with _quiet():
            model, report = model_class.from_pretrained(
                directory, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False, **options
            )
    except Exception as error:  # the files passed their checks: what is left is transformers' own to say
        raise CheckpointError(f"{directory}: transformers cannot load it ({_line(error)})") from error
    shapes = [f"{name} {tuple(found)} for {tuple(due)}" for name, found, due in report["mismatched_keys"]]
    kinds = {"missing": report["missing_keys"], "unexpected": report["unexpected_keys"], "of a wrong shape": shapes}
    faults = [_count(kind, names) for kind, names in kinds.items() if names] + list(map(str, report["error_msgs"]))
    if faults:
        raise CheckpointError(
            f"{directory}: tensors {', '.join(faults)}; weights and config.json do not belong together"
        )
    return model


def _count(kind: str, names: Collection[str]) -> str:
    return f"{kind}: {len(names)} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"


def _line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar and no log line from transformers inside; both as they were afterwards."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
