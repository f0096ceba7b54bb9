"""Loading a checkpoint after checking every file; each problem is an error of one line.

transformers fills missing tensors with random numbers and drops unexpected ones, at most with a warning. Here both are
errors, because a fused model would inherit them unnoticed.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import nn
from transformers import PreTrainedModel

from transfuse.base.folders import expanded
from transfuse.base.libraries import quiet
from transfuse.base.memory_limit import without_memory_limit
from transfuse.checkpoint.reading.adapter_folder import base_folder, is_adapter, merged_folder
from transfuse.checkpoint.reading.checkpoint_class import checkpoint_class
from transfuse.checkpoint.reading.companions import (
    ADAPTER_CONFIG,
    ADAPTER_FILES,
    CONFIG,
    HUB_PATTERNS,
    PICKLE_NAMES,
    SAFETENSORS_NAMES,
)
from transfuse.checkpoint.reading.config_file import check_counts, read_config
from transfuse.checkpoint.reading.expert_tensors import expert_problems
from transfuse.checkpoint.reading.files import PicklePolicy, stored_dtypes, weight_files
from transfuse.checkpoint.reading.finite import check_finite
from transfuse.checkpoint.reading.lazy_tensors import check_no_integer_weights
from transfuse.checkpoint.reading.other_kinds import file_instead_of_folder
from transfuse.checkpoint.reading.shard_index import check_index, loadable_folder
from transfuse.checkpoint.reading.ties import with_actual_ties, with_equal_tensors_tied
from transfuse.checkpoint.reading.unread_tensors import is_unread
from transfuse.checkpoint.reading.weight_dtype import weight_dtype
from transfuse.checkpoint.writing.push import FORBIDDEN, LOGIN, UNAUTHORIZED
from transfuse.errors import CheckpointError, first_line

Model: TypeAlias = str | Path | PreTrainedModel
"""The path of a checkpoint, a Hub name, or a loaded model."""
NO_MODEL = "give the path of a checkpoint or a loaded transformers model (for a result, .model or its saved path)"

OWN_POOLER = re.compile(r"(\w+\.)?pooler\.")
SAFETENSORS_SHARDS, PICKLE_SHARDS = "model-*-of-*.safetensors", "pytorch_model-*-of-*.bin"


@dataclass(frozen=True)
class _Source:
    """What `from_pretrained` is called with: a model class, a folder and keyword arguments."""

    model_class: Any
    folder: Path
    options: dict[str, Any]


def load_model(path: str | Path, dtype: torch.dtype | None = None, pickle: PicklePolicy = "refuse") -> PreTrainedModel:
    """Load a checkpoint as the class that its config.json names, in eval mode; code in the checkpoint is never run.

    Args:
        path: a folder, or a name on the Hub.
        dtype: None for the dtype on disk, as `weight_dtype` returns it.
        pickle: whether pickled weights are read if there are no others.

    Raises:
        CheckpointError: a file is missing or wrong, a tensor is missing, unexpected, of a wrong shape or not finite.
    """
    source, _ = _load_empty(path, dtype, pickle)  # checks names and shapes before any weight is allocated
    model = _from_pretrained(source)
    check_finite(model.state_dict(), str(source.folder))
    return with_actual_ties(with_eager_experts(model)).eval()


def load_empty(path: str | Path, pickle: PicklePolicy = "refuse") -> PreTrainedModel:
    """Load a model as `load_model` does, but on the meta device, without its weights.

    Raises:
        CheckpointError: as in `load_model`, except for values that are not finite.
    """
    source, model = _load_empty(path, None, pickle)
    return with_equal_tensors_tied(with_eager_experts(model), source.folder).eval()


def _load_empty(path: str | Path, dtype: torch.dtype | None, pickle: PicklePolicy) -> tuple[_Source, PreTrainedModel]:
    """Return what to load, and the model on the meta device, after all checks that need no weights."""
    folder = local_directory(path, pickle)
    config = read_config(folder)
    files = weight_files(folder, pickle)
    dtypes_by_file = {file: stored_dtypes(file) for file in files}
    check_index(folder, dtypes_by_file)
    dtypes = {name: stored for file_dtypes in dtypes_by_file.values() for name, stored in file_dtypes.items()}
    check_counts(config.to_dict(), len(dtypes), folder)
    architecture = checkpoint_class(config, folder, dtypes)
    options = {
        "config": config,
        "dtype": weight_dtype(architecture, config, dtypes) if dtype is None else dtype,
        "use_safetensors": files[0].suffix == ".safetensors",
    }
    with without_memory_limit():
        model = _from_pretrained(_Source(architecture, folder, {**options, "device_map": "meta"}))
    check_no_integer_weights(model, [name for name, stored in dtypes.items() if stored is None], folder)
    return _Source(architecture, folder, options), model


def with_eager_experts(model: PreTrainedModel) -> PreTrainedModel:
    """Compute the experts of a model one by one, because the fast kernels support some sizes and dtypes only."""
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")
    return model


def local_directory(path: str | Path, pickle: PicklePolicy = "refuse") -> Path:
    """Return the folder at `path`, or fetch the model of that name from the Hub if there is no such folder.

    A name on the Hub may end with a revision: `org/model@revision`. Pickled weights are fetched only if they are
    allowed and there are no others. The folder of an adapter is replaced by one with the merged checkpoint.

    Raises:
        CheckpointError: there is neither, or `path` is a file, or an adapter cannot be merged.
    """
    folder = unmerged_directory(path, pickle)
    return merged_folder(folder, unmerged_directory) if is_adapter(folder) else folder


def adapter_base(path: str | Path) -> Path | None:
    """Return the folder of the base model if there is an adapter at `path`; None for an ordinary checkpoint."""
    folder = unmerged_directory(path, "allow")
    return base_folder(folder, unmerged_directory) if is_adapter(folder) else None


def unmerged_directory(path: str | Path, pickle: PicklePolicy = "refuse") -> Path:
    """Return the folder at `path`, as `local_directory` does, but an adapter's own folder for an adapter.

    Raises:
        CheckpointError: there is no folder and no model of this name, or `path` is a file.
    """
    if not isinstance(path, str | Path):
        raise CheckpointError(f"{path!r:.80}: is not a model; give a checkpoint path or a loaded transformers model")
    if not str(path):  # as a path, it would be the current folder
        raise CheckpointError("the name of a model is empty; give the path of a checkpoint")
    folder = expanded(path)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise file_instead_of_folder(path)
    name, _, revision = str(path).partition("@")
    fetch = partial(snapshot_download, name, revision=revision or None)
    wanted = [CONFIG, *ADAPTER_FILES, *SAFETENSORS_NAMES, SAFETENSORS_SHARDS, *HUB_PATTERNS]
    try:
        folder = Path(fetch(allow_patterns=wanted))
        found = any((folder / file).is_file() for file in (*SAFETENSORS_NAMES, ADAPTER_CONFIG))
        if pickle == "refuse" or found:
            return folder
        return Path(fetch(allow_patterns=[*PICKLE_NAMES, PICKLE_SHARDS]))
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{path}: the Hub has no revision {revision!r} of {name}; check its name") from error
    except Exception as error:
        raise CheckpointError(f"{path}: {_fetch_problem(error)}") from error


def _fetch_problem(error: Exception) -> str:
    """Return why a model was not fetched from the Hub, and what to do."""
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else None
    if isinstance(cause, GatedRepoError):
        return f"the model is gated on the Hub; accept its terms on its page, and {LOGIN}"
    if isinstance(cause, RepositoryNotFoundError):
        return f"no such directory, and the Hub has no such public model; check the path, or {LOGIN}"
    if status in (UNAUTHORIZED, FORBIDDEN):
        return f"the Hub refuses access ({first_line(cause)}); {LOGIN}"
    reason = "" if isinstance(cause, HFValidationError) else f" ({first_line(cause).rstrip('.')})"
    return f"no such directory, and the Hub could not be reached or has no such model{reason}; check the path"


def _from_pretrained(source: _Source) -> PreTrainedModel:
    folder = source.folder
    files = weight_files(folder, "allow")
    try:
        with quiet(), loadable_folder(folder, files[0]) as readable:
            model, report = source.model_class.from_pretrained(
                readable,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                **source.options,
            )
    except Exception as error:  # the files passed all checks, so that the message of transformers says what is wrong
        if messages := [_summary(*problem) for problem in expert_problems(files).items()]:
            raise _do_not_belong_together(folder, messages) from error
        raise CheckpointError(f"{folder}: transformers cannot load it ({first_line(error)})") from error
    problems = {
        "missing": report["missing_keys"],
        "unexpected": [name for name in report["unexpected_keys"] if not is_unread(name, type(model).__name__)],
        "of a wrong shape": [
            f"{name} {tuple(stored)} for {tuple(expected)}" for name, stored, expected in report["mismatched_keys"]
        ],
    }
    messages = [_summary(kind, names) for kind, names in problems.items() if names]
    messages += map(str, report["error_msgs"])
    if problems["unexpected"] and not problems["of a wrong shape"] and not source.options["config"].architectures:
        raise CheckpointError(f'{folder}: config.json names no class; add architectures, such as ["BertForMaskedLM"]')
    poolers = sorted(name for name in report["missing_keys"] if OWN_POOLER.match(name))
    if poolers and messages == [_summary("missing", poolers)]:
        name = type(model).__name__
        raise CheckpointError(
            f"{folder}: was saved without its pooler ({', '.join(poolers)}); if you do not use its output, which"
            f" sentence-transformers does not, load it with {name}.from_pretrained, which adds one of random numbers,"
            " save it with its other files, and give that"
        )
    if messages:
        messages = [_summary(*problem) for problem in expert_problems(files).items()] or messages
        raise _do_not_belong_together(folder, messages)
    return model


def _do_not_belong_together(folder: Path, messages: Sequence[str]) -> CheckpointError:
    return CheckpointError(f"{folder}: tensors {', '.join(messages)}; weights and config.json do not belong together")


def _summary(problem: str, names: Collection[str]) -> str:
    return f"{problem}: {len(names)} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"


def model_name(model: Model, if_loaded: str) -> str:
    """Return the path of a model, or what a model without a path is called."""
    return if_loaded if isinstance(model, nn.Module) else str(model)


def model_names(models: Sequence[Model]) -> list[str]:
    """Return what to call models in messages."""
    return [model_name(model, f"model {number}") for number, model in enumerate(models, 1)]
