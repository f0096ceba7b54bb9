"""Open the models of a fusion: loaded into memory, or left in their files and read tensor by tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import nn
from transformers import PreTrainedModel

from transfuse.base.budget import available_bytes, check_free_memory
from transfuse.base.distributed import process_group
from transfuse.base.lazy import as_needed
from transfuse.base.progress import Progress
from transfuse.base.sizes import format_bytes
from transfuse.checkpoint.finite import check_finite
from transfuse.checkpoint.lazy_tensors import read_lazily, tensor_locations
from transfuse.checkpoint.load import load_empty, load_model, local_directory
from transfuse.checkpoint.sentences import check_sentence_modules
from transfuse.checkpoint.ties import check_ties
from transfuse.config.options import Options
from transfuse.config.validation import unknown_methods
from transfuse.errors import CheckpointError, ConfigError
from transfuse.fusion.plan import START, Estimate
from transfuse.fusion.record import Origin, origin
from transfuse.fusion.vocabulary import Rows, recode, rows_of_words
from transfuse.network.compatible import check_same_function, check_same_layers
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import Network, checked_declaration, declaration, network
from transfuse.network.precision import compute_dtype, matmul_dtype
from transfuse.network.registry import load_families

Model: TypeAlias = str | Path | PreTrainedModel


@dataclass(frozen=True)
class Inputs:
    """The models of a fusion, known to fit each other.

    Attributes:
        models: as transformers models, the anchor first; without weights where they are streamed.
        networks: their tensors and declarations; sources speak the anchor's vocabulary.
        rows: for each source, the row of its vocabulary for each of the anchor's tokens; None: the same vocabulary.
        origins: path and hashes of each model.
        streamed: whether the tensors stay in their files and are read when they are needed.
        loaded_bytes: estimate of the peak memory of a fusion by weights with loaded models.
    """

    models: Sequence[PreTrainedModel]
    networks: Sequence[Network]
    rows: Sequence[Rows | None]
    origins: tuple[Origin, ...]
    streamed: bool
    loaded_bytes: int

    @property
    def anchor(self) -> PreTrainedModel:
        """The first model, whose basis and shape the fusion has."""
        return self.models[0]


def open_models(
    models: Sequence[Model],
    options: Options,
    has_data: bool,
    progress: Progress,
    max_memory: int | None = None,
    stream: bool | None = None,
) -> Inputs:
    """Open the models of a fusion and check that they fit each other.

    Args:
        max_memory: bytes that the process may take; None: what is free.
        stream: whether to leave the tensors in their files; None: only if memory does not hold the loaded models.

    Raises:
        TransfuseError: a model cannot be read, the models do not fit each other, or memory does not suffice.
    """
    check_models_given(models)
    options.normalized_weights(len(models))
    load_families(options.spec)
    for name, why in unknown_methods(options).items():
        raise ConfigError(f"{name}: {why}")
    options.check_data(has_data, {})
    check_sentence_modules(models)
    empty = [model if isinstance(model, PreTrainedModel) else empty_model(model, options) for model in models]
    estimate = Estimate(empty, options)
    paths = [str(model) for model in models if not isinstance(model, PreTrainedModel)]
    able = len(paths) == len(models) and streamable(paths, empty, options, has_data)
    if stream is None:
        decision = needs_streaming(estimate, able, max_memory)
        stream = process_group().all_gather(decision)[0]  # processes may see different amounts of free memory
    if stream:
        return _streamed(paths, empty, options, estimate.loaded)
    if paths:
        check_free_memory(estimate.loaded - START, torch.device("cpu"), "fusing", progress.warn)
    return _loaded(models, options, estimate.loaded)


def check_models_given(models: Sequence[Model]) -> None:
    """Raise `ConfigError` unless `models` is a list of two or more models or paths."""
    if isinstance(models, str | Path) or not all(isinstance(model, str | Path | PreTrainedModel) for model in models):
        raise ConfigError("models: give a list of checkpoint paths or loaded transformers models, the anchor first")
    if len(models) < 2:
        raise ConfigError("models: fusing needs at least two")


def load(path: str | Path, options: Options) -> PreTrainedModel:
    """Load one checkpoint in the precision of its files."""
    return load_model(path, pickle=options.pickle_policy())


def empty_model(path: str | Path, options: Options) -> PreTrainedModel:
    """Build the model of a checkpoint without reading its weights."""
    return load_empty(path, pickle=options.pickle_policy())


def streamable(paths: Sequence[str], models: Sequence[PreTrainedModel], options: Options, has_data: bool) -> bool:
    """Return whether checkpoints can be fused tensor by tensor: by weights alone, into a mean, with one vocabulary."""
    if has_data or options.align == "learned" or options.vocab != "same":
        return False
    pairs = zip(paths, models, strict=True)
    return all(tensor_locations(local_directory(path, "allow"), model) is not None for path, model in pairs)


def needs_streaming(estimate: Estimate, able: bool, max_memory: int | None) -> bool:
    """Return whether memory does not hold the loaded models, so that they are streamed.

    Args:
        able: whether they can be.

    Raises:
        ConfigError: even the smaller of the two ways takes more than `max_memory`.
    """
    least = estimate.streamed if able else estimate.loaded
    if max_memory is not None and least > max_memory:
        how = "even tensor by tensor" if able else "with loaded models (--data, --align learned or --vocab need them)"
        raise ConfigError(f"max-memory: {how}, this takes about {format_bytes(least)}; allow more")
    return able and estimate.loaded > (available_bytes() // 2 if max_memory is None else max_memory)


def check_alike(models: Sequence[PreTrainedModel], names: Sequence[str]) -> None:
    """Raise `ConfigError` or `SpecError` unless all models compute the same function of their weights.

    Widths may differ.
    """
    for model, name in zip(models[1:], names[1:], strict=True):
        if type(model) is not type(models[0]):
            raise ConfigError(f"the anchor is a {type(models[0]).__name__}, {name} a {type(model).__name__}")
        check_same_function(models[0].config, model.config, name, type(model).__name__)
    for model in models:
        checked_declaration(model)
    for model, name in zip(models[1:], names[1:], strict=True):
        check_same_layers(models[0].config, model.config, type(model).__name__, name)


def check_models(models: Sequence[PreTrainedModel], names: Sequence[str], options: Options) -> list[Network]:
    """Return loaded models as networks on the chosen device, once they are known to fit each other."""
    check_alike(models, names)
    for model, name in zip(models, names, strict=True):
        check_finite(model.state_dict(), name)
        check_ties(model, name)
    return [network(model, options.torch_device(), name) for model, name in zip(models, names, strict=True)]


def stored_network(folder: Path, model: PreTrainedModel, device: torch.device) -> Network:
    """Return a checkpoint as a network whose tensors stay in its files.

    Raises:
        CheckpointError: its tensors are not stored one by one as safetensors.
    """
    locations = tensor_locations(folder, model)
    if locations is None:
        raise CheckpointError(f"{folder}: its tensors are not stored one by one as safetensors; it can only be loaded")
    spec = declaration(model)
    tensors = split_fused(spec, read_lazily(locations, model, device, compute_dtype(model.dtype), str(folder)))
    return Network(model, unfused(spec), tensors, matmul_dtype(model.dtype), as_needed, str(folder), model.dtype)


def _loaded(models: Sequence[Model], options: Options, loaded_bytes: int) -> Inputs:
    loaded = [model if isinstance(model, PreTrainedModel) else load(model, options) for model in models]
    rows = rows_of_words(models, loaded, options.vocab)
    sources = [
        source if row is None else recode(source, row, loaded[0]) for source, row in zip(loaded[1:], rows, strict=True)
    ]
    names = [_name(model, index) for index, model in enumerate(models, 1)]
    networks = check_models([loaded[0], *sources], names, options)
    origins = tuple(origin(given, model) for given, model in zip(models, loaded, strict=True))
    return Inputs(loaded, networks, rows, origins, False, loaded_bytes)


def _streamed(paths: Sequence[str], empty: Sequence[PreTrainedModel], options: Options, loaded_bytes: int) -> Inputs:
    rows = rows_of_words(paths, empty, "same")
    check_alike(empty, paths)
    device = options.torch_device()
    folders = [local_directory(path, "allow") for path in paths]
    networks = [stored_network(folder, model, device) for folder, model in zip(folders, empty, strict=True)]
    origins = tuple(origin(path, model) for path, model in zip(paths, empty, strict=True))
    return Inputs(empty, networks, rows, origins, True, loaded_bytes)


def _name(model: Model, number: int) -> str:
    return f"model {number}" if isinstance(model, nn.Module) else str(model)
