"""Open the models of a fusion, either in memory or left in their files to be read tensor by tensor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import TypeAlias

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.budget import check_free_memory
from transfuse.base.distributed import process_group
from transfuse.base.lazy import as_needed
from transfuse.base.progress import Progress
from transfuse.checkpoint.finite import check_finite
from transfuse.checkpoint.lazy_tensors import read_lazily, tensor_locations
from transfuse.checkpoint.load import adapter_base, load_empty, load_model, local_directory
from transfuse.checkpoint.sentences import check_sentence_modules
from transfuse.checkpoint.spill import TensorSpill
from transfuse.checkpoint.ties import check_ties
from transfuse.config.options import Options
from transfuse.config.validation import unknown_methods
from transfuse.errors import CheckpointError, ConfigError
from transfuse.fusion.anchor_head import borrowed_tensors, is_convertible, with_anchor_class
from transfuse.fusion.class_order import in_anchor_order, warn_of_order, with_anchor_order
from transfuse.fusion.mapped import mapped_network
from transfuse.fusion.padded_vocabulary import is_padded, padding_warning, resized, with_rows
from transfuse.fusion.plan import STARTUP_BYTES, Estimate
from transfuse.fusion.position_tables import with_anchor_positions
from transfuse.fusion.record import Origin, origin
from transfuse.fusion.streaming_choice import mapped_bytes, needs_streaming, streaming_obstacle
from transfuse.fusion.vocabulary import Rows, recode, token_rows
from transfuse.network.compatible import check_same_function, check_same_layers
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import Network, checked_declaration, declaration, network
from transfuse.network.precision import compute_dtype, matmul_dtype
from transfuse.network.registry import load_families

Model: TypeAlias = str | Path | PreTrainedModel


@dataclass(frozen=True)
class Inputs:
    """Hold the models of a fusion after the checks that they are compatible.

    Attributes:
        models: the transformers models, the anchor first; streamed models have no weights.
        networks: their tensors and declarations. Sources with another vocabulary are converted to the anchor's. With
            samples, the networks of streamed models can run, with weights mapped from files.
        borrowed: for each source, the tensors that are the anchor's, because the source's head is not fused.
        rows: for each source, the row in its vocabulary of each of the anchor's tokens; None: the same vocabulary.
        origins: path and hashes of each model.
        streamed: whether the tensors stay in their files and are read when they are needed.
        loaded_bytes: the estimated peak memory in bytes of a fusion by weights with loaded models.
        needed_bytes: the estimated peak memory in bytes with the models as they were opened, besides what samples take.
        base: the model that all were fine-tuned from, as a network; None: none was given.
        base_origin: its path and hashes.
        base_borrowed: its tensors that are the anchor's.
    """

    models: Sequence[PreTrainedModel]
    networks: Sequence[Network]
    borrowed: Sequence[frozenset[str]]
    rows: Sequence[Rows | None]
    origins: tuple[Origin, ...]
    streamed: bool
    loaded_bytes: int
    needed_bytes: int
    base: Network | None = None
    base_origin: Origin | None = None
    base_borrowed: frozenset[str] = frozenset()

    @property
    def anchor(self) -> PreTrainedModel:
        """Return the first model, whose basis and shape the fused model has."""
        return self.models[0]


def open_models(
    models: Sequence[Model],
    options: Options,
    has_data: bool,
    progress: Progress,
    max_memory: int | None = None,
    stream: bool | None = None,
    check: Callable[[Sequence[PreTrainedModel], bool], bool] = lambda models, mapped: False,
    folder: Path | None = None,
    base: Model | None = None,
) -> Inputs:
    """Open the models of a fusion and check that they are compatible.

    Args:
        has_data: whether the fusion has calibration samples.
        max_memory: bytes that the process may use; None: the free memory.
        stream: whether to leave the tensors in their files; None: only if memory does not hold the loaded models.
        check: checks the memory for the models, whose tensors are empty and may be mapped from files, and the samples.
            It returns whether it could.
        folder: where streamed models are written in the anchor's basis, if there are samples; None: a temporary folder.
        base: the model that all were fine-tuned from; None: none is needed.

    Raises:
        TransfuseError: a model cannot be read, the models are not compatible, or memory does not suffice.
    """
    check_models_given(models)
    options.normalized_weights(len(models))
    load_families(options.spec)
    for name, reason in unknown_methods(options).items():
        raise ConfigError(f"{name}: {reason}")
    options.check_base(base is not None, has_data, {})
    options.check_data(has_data, {})
    if base is not None:
        models = [*models, base]
    check_sentence_modules(models)
    empty = [model if isinstance(model, PreTrainedModel) else empty_model(model, options) for model in models]
    names = [_name(model, number) for number, model in enumerate(models, 1)]
    empty = with_anchor_form(empty, names, options)
    estimate = Estimate(empty, options)
    paths = [str(model) for model in models if not isinstance(model, PreTrainedModel)]
    padded = [index for index in range(1, len(models)) if options.vocab == "same" and is_padded(empty, names, index)]
    obstacle = streaming_obstacle(paths, empty, options, has_data)
    if padded and obstacle is None:
        obstacle = f"the vocabulary of {names[padded[0]]} is padded to another number of rows"
    if stream and obstacle:
        raise ConfigError(f"stream: models must be loaded, because {obstacle}; leave stream out")
    if stream is None:
        decision = needs_streaming(estimate, obstacle, max_memory, has_data)
        stream = process_group().all_gather(decision)[0]  # processes may see different amounts of free memory
    checked = check(empty, stream)
    if stream:
        spill = TensorSpill(folder or Path(gettempdir())) if has_data else None
        inputs = _streamed(paths, empty, options, estimate, spill)
    else:
        if not checked and paths:
            check_free_memory(estimate.loaded_bytes - STARTUP_BYTES, torch.device("cpu"), "fusing", progress.warn)
        inputs = _loaded(models, options, estimate.loaded_bytes)
    for index in padded:
        progress.warn(padding_warning(empty[0], empty[index], names[index]))
    for source, name in zip(empty[1:], names[1:], strict=True):
        warn_of_order(empty[0].config, source, name, progress)
    return inputs if base is None else _with_last_as_base(inputs)


def _with_last_as_base(inputs: Inputs) -> Inputs:
    """Return inputs whose last model is the base of the others."""
    *networks, base = inputs.networks
    *origins, base_origin = inputs.origins
    return replace(
        inputs,
        models=inputs.models[:-1],
        networks=networks,
        borrowed=inputs.borrowed[:-1],
        base_borrowed=inputs.borrowed[-1],
        rows=inputs.rows[:-1],
        origins=tuple(origins),
        base=base,
        base_origin=base_origin,
    )


def check_models_given(models: Sequence[Model]) -> None:
    """Raise `ConfigError` unless `models` is a list of two or more models or paths."""
    if isinstance(models, str | Path) or not all(isinstance(model, str | Path | PreTrainedModel) for model in models):
        raise ConfigError("models: give a list of checkpoint paths or loaded transformers models, the anchor first")
    if len(models) < 2:
        raise ConfigError("models: only one model; give two or more, the anchor first")


def load(path: str | Path, options: Options) -> PreTrainedModel:
    """Load one checkpoint in the precision of its files."""
    return load_model(path, pickle=options.pickle_policy())


def empty_model(path: str | Path, options: Options) -> PreTrainedModel:
    """Build the model of a checkpoint without reading its weights."""
    return load_empty(path, pickle=options.pickle_policy())


def with_anchor_form(
    models: Sequence[PreTrainedModel], names: Sequence[str], options: Options
) -> list[PreTrainedModel]:
    """Return models with the anchor's head and the anchor's positions, where the options ask for these.

    Raises:
        ConfigError: a model cannot have them.
    """
    anchor, *sources = models
    if options.head == "anchor":
        sources = [with_anchor_class(source, anchor, name) for source, name in zip(sources, names[1:], strict=True)]
    if options.positions == "anchor":
        sources = [with_anchor_positions(source, anchor, name) for source, name in zip(sources, names[1:], strict=True)]
    return [anchor, *sources]


def check_compatible(models: Sequence[PreTrainedModel], names: Sequence[str]) -> None:
    """Raise `ConfigError` or `SpecError` unless all models compute the same function of their weights.

    Widths may differ, and so may the order of classes that have names, and the number of rows beyond the tokens.
    """
    anchor = models[0]
    configs: list[PreTrainedConfig] = []  # as the sources are after the changes that are made to them
    for index, (model, name) in enumerate(zip(models[1:], names[1:], strict=True), 1):
        if type(model) is not type(anchor):
            advice = ", or pass --head anchor to fuse all but their heads" if is_convertible(model, anchor) else ""
            raise ConfigError(
                f"{name}: is a {type(model).__name__}, but the anchor is a {type(anchor).__name__}; give models of"
                f" one class{advice}"
            )
        architecture = type(model).__name__
        config = in_anchor_order(anchor.config, model.config, architecture)
        if is_padded(models, names, index):
            config = with_rows(config, anchor.config.vocab_size)
        check_same_function(anchor.config, config, name, architecture)
        configs.append(config)
    for model in models:
        checked_declaration(model)
    for config, name in zip(configs, names[1:], strict=True):
        check_same_layers(anchor.config, config, type(anchor).__name__, name)


def checked_networks(models: Sequence[PreTrainedModel], names: Sequence[str], options: Options) -> list[Network]:
    """Check that loaded models are compatible, and return them as networks on the chosen device.

    The sources have the anchor's order of classes, and as many rows of embeddings.

    Raises:
        TransfuseError: the models are not compatible, or a weight is not finite, or tied weights differ.
    """
    check_compatible(models, names)
    models = [
        resized(model, models[0]) if is_padded(models, names, index) else model for index, model in enumerate(models)
    ]
    for model, name in zip(models, names, strict=True):
        check_finite(model.state_dict(), name)
        check_ties(model, name)
    networks = [network(model, options.torch_device(), name) for model, name in zip(models, names, strict=True)]
    return [with_anchor_order(network, models[0].config) for network in networks]


def stored_network(folder: Path, model: PreTrainedModel, device: torch.device) -> Network:
    """Return a checkpoint as a network whose tensors stay in its files.

    Raises:
        CheckpointError: the tensors are not stored one by one as safetensors.
    """
    locations = tensor_locations(folder, model)
    if locations is None:
        raise CheckpointError(
            f"{folder}: its tensors are not stored one by one as safetensors; fuse it in memory, without streaming"
        )
    spec = declaration(model)
    tensors = split_fused(spec, read_lazily(locations, model, device, compute_dtype(model.dtype), str(folder)))
    return Network(model, unfused(spec), tensors, matmul_dtype(model.dtype), as_needed, str(folder), model.dtype)


def _loaded(models: Sequence[Model], options: Options, loaded_bytes: int) -> Inputs:
    """Return loaded models; sources with another vocabulary are converted to the anchor's."""
    loaded = [model if isinstance(model, PreTrainedModel) else load(model, options) for model in models]
    rows_of_sources = token_rows(models, loaded, options.vocab)
    names = [_name(model, index) for index, model in enumerate(models, 1)]
    fused = options.head == "fused"
    borrowed = [frozenset() if fused else borrowed_tensors(source, loaded[0]) for source in loaded[1:]]
    converted = with_anchor_form(loaded, names, options)
    sources = [
        source if rows is None else recode(source, rows, loaded[0])
        for source, rows in zip(converted[1:], rows_of_sources, strict=True)
    ]
    networks = checked_networks([loaded[0], *sources], names, options)
    origins = tuple(_origin(source, model) for source, model in zip(models, loaded, strict=True))
    return Inputs(loaded, networks, borrowed, rows_of_sources, origins, False, loaded_bytes, loaded_bytes)


def _streamed(
    paths: Sequence[str],
    empty: Sequence[PreTrainedModel],
    options: Options,
    estimate: Estimate,
    spill: TensorSpill | None,
) -> Inputs:
    """Return models whose tensors stay in their files.

    Args:
        spill: writes and maps what is computed from the weights, for models that run on samples; None: they do not.
    """
    rows = token_rows(paths, empty, "same")
    check_compatible(empty, paths)
    device = options.torch_device()
    folders = [local_directory(path, "allow") for path in paths]
    networks = [
        stored_network(folder, model, device) if spill is None else mapped_network(folder, model, spill)
        for folder, model in zip(folders, empty, strict=True)
    ]
    networks = [
        replace(with_anchor_order(network, empty[0].config), name=path)
        for network, path in zip(networks, paths, strict=True)
    ]
    origins = tuple(_origin(path, model) for path, model in zip(paths, empty, strict=True))
    needed = estimate.streamed_bytes if spill is None else mapped_bytes(estimate)
    borrowed = [frozenset[str]()] * len(rows)
    return Inputs(empty, networks, borrowed, rows, origins, True, estimate.loaded_bytes, needed)


def _origin(source: Model, model: PreTrainedModel) -> Origin:
    """Return what identifies an input model; the base model of an adapter is protected from being overwritten."""
    base = None if isinstance(source, PreTrainedModel) else adapter_base(source)
    found = origin(source, model)
    return found if base is None else replace(found, folder=str(base))


def _name(model: Model, number: int) -> str:
    """Return the path of a model, or its number if it is loaded."""
    return f"model {number}" if isinstance(model, nn.Module) else str(model)
