"""Open the models of a fusion, either in memory or left in their files to be read tensor by tensor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import gettempdir

import torch
from transformers import PreTrainedModel

from transfuse.base.budget import check_free_memory
from transfuse.base.distributed import process_group
from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.given_models import check_given
from transfuse.checkpoint.reading.load import Model, local_directory, model_name, model_names
from transfuse.checkpoint.reading.mapped_model import mapped_network
from transfuse.checkpoint.reading.sentences import check_sentence_modules
from transfuse.checkpoint.reading.spill import TensorSpill
from transfuse.checkpoint.record.origin import Origin, origin
from transfuse.config.options import Options
from transfuse.config.validation import check_base, check_data, fewest_models, unknown_methods
from transfuse.errors import ConfigError
from transfuse.fusion.models.anchor_settings import warn_of_settings
from transfuse.fusion.models.compatible import (
    borrowed_by_sources,
    check_models_given,
    checked_networks,
    load,
    stored_network,
    with_anchor_form,
)
from transfuse.fusion.models.equal_classes import in_one_family
from transfuse.fusion.models.padded_vocabulary import is_padded, padding_warning
from transfuse.fusion.models.unloaded import UnloadedModels, unloaded_models
from transfuse.fusion.models.vocabulary import Rows, with_anchor_tokens
from transfuse.fusion.models.whole_models import whole_models
from transfuse.fusion.planning.plan import STARTUP_BYTES, Estimate
from transfuse.fusion.planning.streaming_choice import mapped_bytes, needs_streaming
from transfuse.fusion.sizes.anchor_sizes import with_anchor_sizes
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.network.class_order import warn_of_order, with_anchor_order
from transfuse.network.model import Network, with_own_config
from transfuse.network.registry import load_families


@dataclass(frozen=True, kw_only=True)
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
        resized: a line on each model that had other sizes than the anchor, and how it got the anchor's.
        whole: the models whose function changed on the way to the form of the anchor, as they were, by their numbers.
            They teach and are measured.
        base_correlation: as for `UnloadedModels.correlation`: if it is a number, memory suffices without an alignment.
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
    resized: tuple[str, ...] = ()
    whole: Mapping[int, PreTrainedModel] = field(default_factory=dict)
    base_correlation: float | None = None
    base: Network | None = None
    base_origin: Origin | None = None
    base_borrowed: frozenset[str] = frozenset()

    @property
    def anchor(self) -> PreTrainedModel:
        """Return the first model, whose basis and shape the fused model has."""
        return self.models[0]

    def room(self, limit: int | None) -> int | None:
        """Return the bytes of a memory limit that the models do not need, so that statistics may use them."""
        return None if limit is None else max(limit - self.needed_bytes, 1)


def open_models(
    models: Sequence[Model],
    options: Options,
    has_data: bool,
    progress: Progress,
    max_memory: int | None = None,
    stream: bool | None = None,
    check: Callable[[Estimate, bool], bool] = lambda estimate, mapped: False,
    folder: Path | None = None,
    base: Model | None = None,
    size_samples: SizeSamples | None = None,
    like: int = 0,
    names: Sequence[str] | None = None,
) -> Inputs:
    """Open the models of a fusion and check that they are compatible.

    Args:
        has_data: whether the fusion has calibration samples.
        max_memory: bytes that the process may use; None: the free memory.
        stream: whether to leave the tensors in their files; None: only if memory does not hold the loaded models.
        check: checks the memory for the models, which may be mapped from files, and the samples. It returns whether it
            could.
        folder: where streamed models are written in the anchor's basis, if there are samples; None: a temporary folder.
        base: the model that all were fine-tuned from; None: none is needed.
        size_samples, like: decide about models of other sizes, as for `with_anchor_sizes`.
        names: what to call the models in messages; None: their paths, and loaded ones by their numbers.

    Raises:
        TransfuseError: a model cannot be read, the models are not compatible, or memory does not suffice.
    """
    check_models_given(models, fewest_models(options.merge, base is not None))
    options.normalized_weights(len(models))
    load_families(options.spec)
    for name, reason in unknown_methods(options).items():
        raise ConfigError(f"{name}: {reason}")
    check_base(options, base is not None, has_data)
    check_data(options, has_data)
    anchor_name = "the anchor" if names is None else names[0]
    names = model_names(models) if names is None else names
    if base is not None:
        models, names = [*models, base], [*names, model_name(base, "the base")]
        check_given([base], names[-1:])
    check_sentence_modules(models)
    unloaded = unloaded_models(models, names, options, has_data, base is not None, size_samples, like)
    empty, estimate = unloaded.models, unloaded.estimate
    paths = [str(model) for model in models if not isinstance(model, PreTrainedModel)]
    padded = [index for index in range(1, len(models)) if options.vocab == "same" and is_padded(empty, names, index)]
    if stream and unloaded.obstacle:
        raise ConfigError(f"stream: models must be loaded, because {unloaded.obstacle}; leave stream out")
    if stream is None:
        decision = needs_streaming(estimate, unloaded.obstacle, max_memory, has_data)
        stream = process_group().all_gather(decision)[0]  # processes may see different amounts of free memory
    checked = check(estimate, stream)
    if stream:
        spill = TensorSpill(folder or Path(gettempdir())) if has_data else None
        inputs = _streamed(paths, unloaded, spill)
    else:
        if not checked and paths:
            check_free_memory(estimate.loaded_bytes - STARTUP_BYTES, torch.device("cpu"), "fusing", progress.warn)
        inputs = _loaded(models, names, options, unloaded, size_samples, like, progress)
    for index in padded:
        progress.warn(padding_warning(empty[0], empty[index], names[index], anchor_name))
    warn_of_settings(unloaded.stored, names, options, progress, like)
    for source, name in zip(empty[1:], names[1:], strict=True):
        warn_of_order(empty[0].config, source, name, progress, anchor_name)
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
        whole={number: model for number, model in inputs.whole.items() if number < len(networks)},
        base=base,
        base_origin=base_origin,
    )


def _loaded(
    models: Sequence[Model],
    names: Sequence[str],
    options: Options,
    unloaded: UnloadedModels[Options],
    size_samples: SizeSamples | None,
    like: int,
    progress: Progress,
) -> Inputs:
    """Return loaded models; sources with another vocabulary are converted to the anchor's."""
    given = [with_own_config(model) if isinstance(model, PreTrainedModel) else load(model, options) for model in models]
    origins = tuple(origin(source, model) for source, model in zip(models, given, strict=True))
    given = in_one_family(given, names)
    lines: list[str] = []
    loaded = with_anchor_sizes(given, names, size_samples, lines.append, options.needs_equal_widths, like)
    for line in lines:
        progress.warn(line)
    borrowed = borrowed_by_sources(loaded, options)
    rows = unloaded.rows
    converted = with_anchor_tokens(with_anchor_form(loaded, names, options, like=like), rows)
    networks = checked_networks(converted, names, options, 0 if options.needs_equal_widths else like)
    whole = whole_models(given, loaded, names, rows, options, like)
    needed = unloaded.estimate.loaded_bytes
    return Inputs(
        models=loaded,
        networks=networks,
        borrowed=borrowed,
        rows=rows,
        origins=origins,
        streamed=False,
        loaded_bytes=needed,
        needed_bytes=needed,
        resized=tuple(lines),
        whole=whole,
        base_correlation=unloaded.correlation,
    )


def _streamed(paths: Sequence[str], unloaded: UnloadedModels[Options], spill: TensorSpill | None) -> Inputs:
    """Return models whose tensors stay in their files.

    Args:
        spill: writes and maps what is computed from the weights, for models that run on samples; None: they do not.
    """
    empty, rows, estimate = unloaded.models, unloaded.rows, unloaded.estimate
    device = unloaded.options.torch_device()
    folders = [local_directory(path, "allow") for path in paths]
    networks = [
        stored_network(folder, model, device) if spill is None else mapped_network(folder, model, spill)
        for folder, model in zip(folders, empty, strict=True)
    ]
    networks = [
        replace(with_anchor_order(network, empty[0].config), name=path)
        for network, path in zip(networks, paths, strict=True)
    ]
    origins = tuple(origin(path, model) for path, model in zip(paths, empty, strict=True))
    needed = estimate.streamed_bytes if spill is None else mapped_bytes(estimate)
    borrowed = [frozenset[str]()] * len(rows)
    return Inputs(
        models=empty,
        networks=networks,
        borrowed=borrowed,
        rows=rows,
        origins=origins,
        streamed=True,
        loaded_bytes=estimate.loaded_bytes,
        needed_bytes=needed,
        base_correlation=unloaded.correlation,
    )
