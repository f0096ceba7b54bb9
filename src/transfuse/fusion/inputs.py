"""Open the models of a fusion, either in memory or left in their files to be read tensor by tensor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir

import torch
from torch import nn
from transformers import PreTrainedModel

from transfuse.base.budget import check_free_memory
from transfuse.base.distributed import process_group
from transfuse.base.progress import Progress
from transfuse.checkpoint.load import adapter_base, local_directory
from transfuse.checkpoint.sentences import check_sentence_modules
from transfuse.checkpoint.spill import TensorSpill
from transfuse.config.options import Options
from transfuse.config.validation import unknown_methods
from transfuse.errors import ConfigError
from transfuse.fusion.class_order import warn_of_order, with_anchor_order
from transfuse.fusion.compatible import (
    Model,
    borrowed_by_sources,
    check_compatible,
    check_models_given,
    checked_networks,
    empty_model,
    load,
    stored_network,
    with_anchor_form,
)
from transfuse.fusion.depth import SimilarityFn, depth, with_equal_depth
from transfuse.fusion.mapped import mapped_network
from transfuse.fusion.padded_vocabulary import is_padded, padding_warning
from transfuse.fusion.plan import STARTUP_BYTES, Estimate
from transfuse.fusion.record import Origin, origin
from transfuse.fusion.streaming_choice import mapped_bytes, needs_streaming, streaming_obstacle
from transfuse.fusion.vocabulary import Rows, recode, token_rows
from transfuse.network.model import Network
from transfuse.network.registry import load_families


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
        depths: a line on each model that has fewer blocks than the anchor, with their places.
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
    depths: tuple[str, ...] = ()
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
    similarity: SimilarityFn | None = None,
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
        similarity: decides where the blocks of a model with fewer blocks go; None: they are spaced evenly.

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
    names = [_name(model, f"model {number}") for number, model in enumerate(models, 1)]
    if base is not None:
        models, names = [*models, base], [*names, _name(base, "the base")]
    check_sentence_modules(models)
    empty = [model if isinstance(model, PreTrainedModel) else empty_model(model, options) for model in models]
    depths = {depth(model.config) for model in empty}
    empty = with_anchor_form(empty, names, options)
    estimate = Estimate(empty, options)
    paths = [str(model) for model in models if not isinstance(model, PreTrainedModel)]
    padded = [index for index in range(1, len(models)) if options.vocab == "same" and is_padded(empty, names, index)]
    obstacle = streaming_obstacle(paths, empty, options, has_data)
    if padded and obstacle is None:
        obstacle = f"the vocabulary of {names[padded[0]]} is padded to another number of rows"
    if len(depths) > 1:
        obstacle = "a model gets more blocks"
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
        inputs = _loaded(models, names, options, estimate.loaded_bytes, similarity, progress)
    for index in padded:
        progress.warn(padding_warning(empty[0], empty[index], names[index]))
    for source, name in zip(empty[1:], names[1:], strict=True):
        warn_of_order(empty[0].config, source, name, progress)
    return inputs if base is None else _with_last_as_base(inputs)


def _with_last_as_base(inputs: Inputs) -> Inputs:
    """Return inputs whose last model is the base of the others. What the base lacks is the anchor's in all models."""
    *networks, base = inputs.networks
    *origins, base_origin = inputs.origins
    *borrowed, base_borrowed = inputs.borrowed
    return replace(
        inputs,
        models=inputs.models[:-1],
        networks=networks,
        borrowed=[names | base_borrowed for names in borrowed],
        base_borrowed=base_borrowed,
        rows=inputs.rows[:-1],
        origins=tuple(origins),
        base=base,
        base_origin=base_origin,
    )


def _loaded(
    models: Sequence[Model],
    names: Sequence[str],
    options: Options,
    loaded_bytes: int,
    similarity: SimilarityFn | None,
    progress: Progress,
) -> Inputs:
    """Return loaded models; sources with another vocabulary are converted to the anchor's."""
    loaded = [model if isinstance(model, PreTrainedModel) else load(model, options) for model in models]
    origins = tuple(_origin(source, model) for source, model in zip(models, loaded, strict=True))
    lines: list[str] = []
    loaded = with_equal_depth(loaded, names, similarity, lines.append)
    for line in lines:
        progress.warn(line)
    rows_of_sources = token_rows(models, loaded, options.vocab)
    borrowed = borrowed_by_sources(loaded, options)
    converted = with_anchor_form(loaded, names, options)
    sources = [
        source if rows is None else recode(source, rows, loaded[0])
        for source, rows in zip(converted[1:], rows_of_sources, strict=True)
    ]
    networks = checked_networks([loaded[0], *sources], names, options)
    depths = tuple(lines)
    return Inputs(loaded, networks, borrowed, rows_of_sources, origins, False, loaded_bytes, loaded_bytes, depths)


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


def _name(model: Model, if_loaded: str) -> str:
    """Return the path of a model, or what a model without a path is called."""
    return if_loaded if isinstance(model, nn.Module) else str(model)
