"""The sizes that are asked for, once they are known to be possible."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.checkpoint.reading.config_file import read_config
from transfuse.checkpoint.reading.load import Model, local_directory, model_name, unmerged_directory
from transfuse.checkpoint.reading.sentences import POOLING, read_modules
from transfuse.config.shrink_options import SIZE_NAMES, ShrinkOptions
from transfuse.errors import CheckpointError, ConfigError, TransfuseError
from transfuse.network.changed_spaces import changed_sizes
from transfuse.network.families import declare
from transfuse.network.model import declaration
from transfuse.network.sizes import Sizes, resized, sizes_of
from transfuse.network.target_sizes import target_sizes
from transfuse.shrinking.blocks import check_removable, why_not_removable
from transfuse.shrinking.experts.layer import check_experts
from transfuse.shrinking.ratio import candidates
from transfuse.shrinking.rotary_heads import check_head_size
from transfuse.shrinking.start import check_changes


def possible_sizes(model: Model, loaded: PreTrainedModel, options: ShrinkOptions) -> list[list[Sizes]]:
    """Return the sizes that the options ask for, once they are known to be possible; for a ratio, several in series.

    Args:
        loaded: the model, whose tensors may be empty.

    Raises:
        ConfigError: the sizes are not possible.
        SpecError: models of this family cannot be made smaller in this way.
    """
    own = sizes_of(loaded.config)
    if options.ratio is not None:
        removable = why_not_removable(loaded, own.layers) is None
        return _those_possible(model, loaded, candidates(type(loaded), loaded.config, options.ratio, removable))
    if options.like is None:
        given = {role: getattr(options, role) for role in SIZE_NAMES} | {"experts": options.expert_count(own.experts)}
        return [[_checked(model, loaded, Sizes(**given))]]
    other = read_config(local_directory(options.like, options.pickle_policy()))
    try:
        return [[_checked(model, loaded, _sizes_like(other, loaded))]]
    except ConfigError as error:
        raise ConfigError(f"like: the sizes of {options.like} do not fit; {error}") from error


def _those_possible(model: Model, loaded: PreTrainedModel, wanted: Sequence[Sequence[Sizes]]) -> list[list[Sizes]]:
    """Return the candidates that are possible. If none is, raise what the first one raises."""
    errors: list[TransfuseError] = []
    found: list[list[Sizes]] = []
    for series in wanted:
        found.append([])
        for sizes in series:
            try:
                found[-1].append(_checked(model, loaded, sizes))
            except TransfuseError as error:
                errors.append(error)
    if not any(found):
        raise errors[0]
    return [series for series in found if series]


def _sizes_like(other: PreTrainedConfig, loaded: PreTrainedModel) -> Sizes:
    """Return the sizes of another model, without those that this one or its tensors do not have."""
    own = sizes_of(loaded.config).given().keys() - (set() if _has_units(loaded) else {"intermediate_size"})
    return Sizes(**{role: size for role, size in sizes_of(other).given().items() if role in own})


def _checked(model: Model, loaded: PreTrainedModel, wanted: Sizes) -> Sizes:
    """Return all sizes of the small model, if it and its files are possible."""
    sizes = checked_sizes(loaded, wanted, model_name(model, "the model"))
    if sizes.hidden_size != sizes_of(loaded.config).hidden_size and not isinstance(model, PreTrainedModel):
        _check_pooling(model, sizes)
    return sizes


def checked_sizes(loaded: PreTrainedModel, wanted: Sizes, name: str) -> Sizes:
    """Return all sizes of a smaller model, given some of them, if it is possible.

    Args:
        loaded: the large model, whose tensors may be empty.
        name: what to call it in messages.

    Raises:
        ConfigError: the sizes are not possible.
        SpecError: models of this family cannot be made smaller in this way.
    """
    sizes = target_sizes(loaded.config, wanted, name)
    check_smaller(loaded, sizes, name)
    return sizes


def check_smaller(loaded: PreTrainedModel, sizes: Sizes, name: str) -> None:
    """Raise an error, as `checked_sizes` does, unless a model can have all these sizes, even if no file may hold them.

    Args:
        loaded: the large model, whose tensors may be empty.
        name: what to call it in messages.
    """
    config, architecture = loaded.config, type(loaded)
    own = sizes_of(config)
    if sizes.head_size and sizes.head_size != own.head_size:
        check_head_size(config, sizes.head_size)
    if sizes.layers != own.layers:
        check_removable(loaded, name, own.layers)
    if sizes.experts != own.experts:
        check_experts(loaded, declaration(loaded), name)
    cut = Sizes(layers=sizes.layers, experts=sizes.experts)
    specs = [declare(resized(config, each), architecture.__name__) for each in (cut, sizes)]
    idle = [role for role, size in sizes.given().items() if size != getattr(own, role)]
    if "intermediate_size" in idle and not _has_units(loaded):
        idle = ["intermediate_size"]
    elif (sizes.layers, sizes.experts) != (own.layers, own.experts) or changed_sizes(*specs):
        idle = []
    if idle:
        raise ConfigError(f"{', '.join(idle)}: no tensor of {name} has this size; leave it out")
    check_changes(*specs)


def _has_units(loaded: PreTrainedModel) -> bool:
    """Return whether a tensor has intermediate_size. Where all feed-forward networks are experts, none may have it."""
    config, name = loaded.config, type(loaded).__name__
    units = sizes_of(config).intermediate_size
    return units is not None and declare(config, name) != declare(
        resized(config, Sizes(intermediate_size=units + 1)), name
    )


def _check_pooling(model: str | Path, sizes: Sizes) -> None:
    """Raise `CheckpointError` if files of sentence-transformers hold the width, which would be wrong afterward."""
    if any(module.kind in POOLING for module in read_modules(unmerged_directory(model, "allow"))):
        raise CheckpointError(
            f"{model}: its files for sentence-transformers hold the hidden_size, which would become"
            f" {sizes.hidden_size}; leave it as it is, or remove modules.json"
        )
