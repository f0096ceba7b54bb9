"""Checks that models can be fused, and the conversions that make them alike before they are."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.counted import counted
from transfuse.base.lazy import as_needed
from transfuse.checkpoint.reading.finite import check_finite
from transfuse.checkpoint.reading.given_models import check_given, wrapper_advice
from transfuse.checkpoint.reading.lazy_tensors import read_lazily, tensor_locations
from transfuse.checkpoint.reading.load import Model, load_empty, load_model, model_names
from transfuse.checkpoint.reading.ties import check_ties
from transfuse.config.options import Options
from transfuse.config.validation import ENOUGH_MODELS
from transfuse.errors import CheckpointError, ConfigError
from transfuse.fusion.models.anchor_head import borrowed_tensors, is_convertible, with_anchor_class
from transfuse.fusion.models.anchor_settings import with_anchor_settings
from transfuse.fusion.models.own_head import with_own_head
from transfuse.fusion.models.padded_vocabulary import is_padded, resized_to_anchor, with_rows
from transfuse.fusion.models.position_tables import with_anchor_positions
from transfuse.fusion.sizes.anchor_sizes import with_anchor_sizes
from transfuse.fusion.sizes.samples import SizeSamples
from transfuse.network.class_order import in_anchor_order, with_anchor_order
from transfuse.network.compatible import check_same_function, check_same_layers
from transfuse.network.layout import split_fused, unfused
from transfuse.network.model import Network, checked_declaration, declaration, network, without_weights
from transfuse.network.precision import compute_dtype, matmul_dtype


def check_models_given(models: Sequence[Model], fewest: int) -> None:
    """Raise `ConfigError` unless `models` is a list of at least `fewest` models with weights, or paths."""
    listed = isinstance(models, Sequence) and not isinstance(models, str)
    others = [model for model in models if not isinstance(model, str | Path | PreTrainedModel)] if listed else [models]
    if others:
        raise ConfigError(
            "models: give a list of checkpoint paths or loaded transformers models (for a result, .model or its saved"
            f" path), the anchor first{wrapper_advice(others[0])}"
        )
    if len(models) < fewest:
        raise ConfigError(f"models: {counted(len(models), 'model')} given; {ENOUGH_MODELS}")
    check_given(models, model_names(models))


def load(path: str | Path, options: Options) -> PreTrainedModel:
    """Load one checkpoint in the precision of its files."""
    return load_model(path, pickle=options.pickle_policy())


def empty_model(model: Model, options: Options) -> PreTrainedModel:
    """Return a model without weights: a copy of a loaded one, or that of a checkpoint, whose weights are not read."""
    if isinstance(model, PreTrainedModel):
        return without_weights(model)
    return load_empty(model, pickle=options.pickle_policy())


def with_anchor_form(
    models: Sequence[PreTrainedModel],
    names: Sequence[str],
    options: Options,
    samples: SizeSamples | None = None,
    like: int = 0,
) -> list[PreTrainedModel]:
    """Return models with the sizes of the anchor, and its head, positions and settings where the options ask for these.

    Args:
        samples, like: as for `with_anchor_sizes`. The settings are those of this model, too.

    Raises:
        ConfigError: a model cannot have them, or is of another class than the anchor.
    """
    check_same_class(models, names, options)
    anchor, *sources = with_anchor_sizes(models, names, samples, widths=options.needs_equal_widths, like=like)
    if options.head == "anchor":
        sources = [with_anchor_class(source, anchor, name) for source, name in zip(sources, names[1:], strict=True)]
    if options.positions == "anchor":
        sources = [with_anchor_positions(source, anchor, name) for source, name in zip(sources, names[1:], strict=True)]
    sources = [with_own_head(source, anchor) for source in sources]
    if options.settings == "anchor":
        anchor, *sources = (with_anchor_settings(model, models[like]) for model in (anchor, *sources))
    return [anchor, *sources]


def check_same_class(models: Sequence[PreTrainedModel], names: Sequence[str], options: Options) -> None:
    """Raise `ConfigError` if a model is of another class than the anchor, unless it gets the anchor's head."""
    anchor = models[0]
    for model, name in zip(models[1:], names[1:], strict=True):
        if type(model) is not type(anchor) and options.head != "anchor":
            advice = ", or fuse all but their heads with --head anchor" if is_convertible(model, anchor) else ""
            raise ConfigError(
                f"{name}: is a {type(model).__name__}, but the anchor is a {type(anchor).__name__}; give models of"
                f" one class{advice}"
            )


def borrowed_by_sources(models: Sequence[PreTrainedModel], options: Options) -> list[frozenset[str]]:
    """Return the names of the tensors that each source takes from the anchor; none if heads are fused.

    Args:
        models: the models as they were loaded, the anchor first.
    """
    anchor, *sources = models
    return [frozenset() if options.head == "fused" else borrowed_tensors(source, anchor) for source in sources]


def check_compatible(models: Sequence[PreTrainedModel], names: Sequence[str], learner: int) -> None:
    """Raise `ConfigError` or `SpecError` unless all models of a class compute the same function of their weights.

    Widths may differ, and so may the order of classes that have names, and the number of rows beyond the tokens.

    Args:
        learner: the number of a model that only learns what the others predict, so that its layers may differ; 0: there
            is none.
    """
    anchor = models[0]
    configs: list[PreTrainedConfig] = []  # as the sources are after the changes that are made to them
    for index, (model, name) in enumerate(zip(models[1:], names[1:], strict=True), 1):
        architecture = type(model).__name__
        config = in_anchor_order(anchor.config, model.config, architecture)
        if is_padded(models, names, index):
            config = with_rows(config, anchor.config.vocab_size)
        check_same_function(anchor.config, config, name, architecture)
        configs.append(config)
    for model in models:
        checked_declaration(model)
    for index, config in enumerate(configs, 1):
        if index != learner:
            check_same_layers(anchor.config, config, type(anchor).__name__, names[index])


def checked_networks(
    models: Sequence[PreTrainedModel], names: Sequence[str], options: Options, learner: int = 0
) -> list[Network]:
    """Check that loaded models are compatible, and return them as networks on the chosen device.

    The sources have the anchor's order of classes, and as many rows of embeddings.

    Args:
        learner: as for `check_compatible`.

    Raises:
        TransfuseError: the models are not compatible, or a weight is not finite, or tied weights differ.
    """
    check_compatible(models, names, learner)
    models = [
        resized_to_anchor(model, models[0]) if is_padded(models, names, index) else model
        for index, model in enumerate(models)
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
