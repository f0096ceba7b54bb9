"""Reading a checkpoint: every file is checked before its weights are believed, and each fault is one line.

transformers fills a gap in a checkpoint with random numbers and drops what it does not know, with a warning at most.
Here both are errors, for a fused model inherits them without a trace.
"""

import re
from collections.abc import Collection, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from transfuse.base.libraries import quiet
from transfuse.base.unique_json import read_json
from transfuse.checkpoint.companions import HUB_PATTERNS
from transfuse.checkpoint.files import (
    FLOAT8_DTYPES,
    PICKLE_NAMES,
    SAFETENSORS_NAMES,
    PicklePolicy,
    stored_dtypes,
    weight_files,
)
from transfuse.checkpoint.finite import check_finite
from transfuse.checkpoint.lazy_tensors import check_no_integer_weights
from transfuse.checkpoint.shard_index import check_index, loadable_folder
from transfuse.checkpoint.ties import with_actual_ties, with_equal_tensors_tied
from transfuse.errors import CheckpointError, first_line
from transfuse.network.registry import USER_CLASSES

LAYERS = re.compile(r"(num|n)_(\w+_)?layers?")  # the entries of a configuration that count them
SIZES = re.compile(r"(image|patch|hidden|intermediate|vocab)_size|num_channels")
MOST_LAYERS, MOST_CLASSES = 10_000, 1_000_000  # far beyond any model
OBSOLETE = (".attn.masked_bias", ".attention.masked_bias")  # constants that old checkpoints carry


def load_model(path: str | Path, dtype: torch.dtype | None = None, pickle: PicklePolicy = "refuse") -> PreTrainedModel:
    """The checkpoint at `path` (a directory, or a name on the hub) as the class its config.json names, in eval mode.

    Weights keep the dtype on disk (where dtypes are mixed, the smallest that holds them all) unless `dtype` is given.
    Code that comes with a checkpoint is never run. Raises CheckpointError unless every tensor the model needs is
    there with its shape and finite, and no other is.
    """
    # The first pass holds no data: it compares names and shapes before anything as large as the config says is made.
    model_class, directory, options, _ = _empty(path, dtype, pickle)
    model = _from_pretrained(model_class, directory, options)
    check_finite(model.state_dict(), str(directory))
    return with_actual_ties(with_eager_experts(model)).eval()


def load_empty(path: str | Path, dtype: torch.dtype | None = None, pickle: PicklePolicy = "refuse") -> PreTrainedModel:
    """The model that `load_model` loads, without its data: on the meta device. Raises CheckpointError likewise."""
    _, directory, _, model = _empty(path, dtype, pickle)
    return with_equal_tensors_tied(with_eager_experts(model), directory).eval()


def _empty(
    path: str | Path, dtype: torch.dtype | None, pickle: PicklePolicy
) -> tuple[type, Path, dict[str, Any], PreTrainedModel]:
    """What to ask transformers for, and what comes of it without data; raises for all that this shows to be wrong."""
    model_class, directory, options, whole = _request(path, dtype, pickle)
    model = _from_pretrained(model_class, directory, {**options, "device_map": "meta"})
    check_no_integer_weights(model, whole, directory)
    return model_class, directory, options, model


def _request(
    path: str | Path, dtype: torch.dtype | None, pickle: PicklePolicy
) -> tuple[type, Path, dict[str, Any], list[str]]:
    """What to ask transformers for: the class, the directory, and how to load it; and which tensors are no reals."""
    directory = local_directory(path, pickle)
    config = read_config(directory)
    model_class = _model_class(config, directory)
    files = weight_files(directory, pickle)
    kinds = {file: stored_dtypes(file) for file in files}
    check_index(directory, kinds)
    stored = {name: found for each in kinds.values() for name, found in each.items()}
    _check_counts(config.to_dict(), len(stored), directory)
    if dtype is None:
        on_disk = {
            torch.bfloat16 if found in FLOAT8_DTYPES else found for found in stored.values() if found is not None
        }
        dtype = reduce(torch.promote_types, on_disk) if on_disk else torch.float32
    safe = files[0].suffix == ".safetensors"
    whole = [name for name, found in stored.items() if found is None]
    return model_class, directory, {"config": config, "dtype": dtype, "use_safetensors": safe}, whole


def with_eager_experts(model: PreTrainedModel) -> PreTrainedModel:
    """The model, its experts computed one by one: the fast kernels take some sizes and precisions only."""
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    return model


def local_directory(path: str | Path, pickle: PicklePolicy = "refuse") -> Path:
    """The directory at `path`; where there is none, `path` is taken as a name on the hub and its files are fetched.

    Raises CheckpointError if neither exists, or if `path` is a file.
    """
    directory = Path(path).expanduser()
    if directory.is_dir():
        return directory
    if directory.exists():
        raise CheckpointError(f"{path}: is a file; give the directory that holds config.json and the weights")
    names = SAFETENSORS_NAMES + (PICKLE_NAMES if pickle == "allow" else ())
    shards = [
        name.replace(".index.json", "").replace(".", "-*-of-*.") for name in names if name.endswith(".index.json")
    ]
    try:
        return Path(snapshot_download(str(path), allow_patterns=["config.json", *names, *shards, *HUB_PATTERNS]))
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
        raw = read_json(file)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not readable as JSON ({first_line(error)}); restore the file") from error
    model_type = raw.get("model_type") if isinstance(raw, dict) else None
    if not isinstance(model_type, str):
        raise CheckpointError(f"{file}: no model_type; add the one of the model that the weights belong to")
    if model_type not in CONFIG_MAPPING:
        raise CheckpointError(
            f"{file}: transformers {transformers.__version__} knows no model_type {model_type!r};"
            " register a class of your own in a file and pass --spec FILE"
        )
    if raw.get("quantization_config") or raw.get("compression_config"):
        raise CheckpointError(f"{file}: the weights are quantized; dequantize and save them again first")
    if raw.get("transformers_weights"):
        raise CheckpointError(
            f"{file}: transformers_weights points elsewhere; remove it and name the file {SAFETENSORS_NAMES[0]}"
        )
    _check_counts(raw, MOST_LAYERS, directory)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # each config class has its own ways to refuse a value
        raise CheckpointError(
            f"{file}: not a valid {model_type} config ({first_line(error)}); correct the file"
        ) from error
    if not all(isinstance(name, str) for name in (config.id2label or {}).values()):
        raise CheckpointError(f"{file}: id2label should map numbers to names; correct the file")
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = getattr(
            config, "pad_token_id", None
        )  # what T5 begins with, where its configuration is silent
    return config


def _check_counts(config: Mapping[str, Any], most: int, directory: Path) -> None:
    """Raise `CheckpointError` for negative sizes, more layers than `most` or classes than `MOST_CLASSES`.

    Layers and names of classes would be made first; two negative sizes can give a positive number of patches.
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            _check_counts(value, most, directory)
        if SIZES.fullmatch(str(name)) and any(each < 0 for each in _numbers(value)):
            raise CheckpointError(f"{directory}/config.json: {name} is {value}; a size is positive, correct the file")
        limit = most if LAYERS.fullmatch(str(name)) else MOST_CLASSES if name == "num_labels" else None
        if limit is not None and isinstance(value, int | float) and value > limit:
            raise CheckpointError(
                f"{directory}/config.json: {name} is {value}, which no weights here can be of (at most {limit});"
                " correct the file"
            )


def _numbers(value: object) -> list[float]:
    listed = value if isinstance(value, list | tuple) else [value]
    return [each for each in listed if isinstance(each, int | float)]


def _model_class(config: PreTrainedConfig, directory: Path) -> type:
    if not config.architectures:
        return AutoModel
    name = config.architectures[0]
    found = USER_CLASSES.get(name) or getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise CheckpointError(f"{directory}/config.json: architecture {name!r} is no model of transformers; correct it")
    expected = getattr(found, "config_class", None)
    if expected is None or not isinstance(config, expected):
        raise CheckpointError(f"{directory}/config.json: architecture {name} is not of model_type {config.model_type}")
    return found


def _from_pretrained(model_class: Any, directory: Path, options: dict[str, Any]) -> PreTrainedModel:
    try:
        with quiet(), loadable_folder(directory, weight_files(directory, "allow")[0]) as folder:
            model, report = model_class.from_pretrained(
                folder, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False, **options
            )
    except Exception as error:  # the files passed their checks: what is left is transformers' own to say
        raise CheckpointError(f"{directory}: transformers cannot load it ({first_line(error)})") from error
    shapes = [f"{name} {tuple(found)} for {tuple(due)}" for name, found, due in report["mismatched_keys"]]
    unexpected = [name for name in report["unexpected_keys"] if not name.endswith(OBSOLETE)]
    kinds = {"missing": report["missing_keys"], "unexpected": unexpected, "of a wrong shape": shapes}
    faults = [_count(kind, names) for kind, names in kinds.items() if names] + list(map(str, report["error_msgs"]))
    if faults:
        raise CheckpointError(
            f"{directory}: tensors {', '.join(faults)}; weights and config.json do not belong together"
        )
    return model


def _count(kind: str, names: Collection[str]) -> str:
    return f"{kind}: {len(names)} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
