"""The options of carrying a fine-tune to another base, and what it requires."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from transfuse.base.counted import counted
from transfuse.checkpoint.reading.load import Model, local_directory
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.config.validation import carry_merging, check_carry
from transfuse.data.text.saved_tokenizer import vocabulary
from transfuse.errors import ConfigError
from transfuse.fusion.models.compatible import empty_model, with_anchor_form
from transfuse.fusion.models.padded_vocabulary import is_padded, with_rows
from transfuse.fusion.models.vocabulary import differing_tokens
from transfuse.fusion.sizes.anchor_sizes import with_anchor_sizes
from transfuse.fusion.sizes.changes import depth
from transfuse.network.class_order import in_anchor_order
from transfuse.network.compatible import TOKEN_ADVICE
from transfuse.network.config_fields import differences, shape_differences
from transfuse.network.layout import unfused
from transfuse.network.model import Network, declaration
from transfuse.network.output_losses import problem_type
from transfuse.network.spec import Spec

ROLES = ("new base", "base", "tuned")  # of the models, in the order of the record
OTHER_TUNED = "give a fine-tune of the base"
SAME_SHAPE = "a fine-tune has the shape of its base; give the base that was tuned"
OTHER_FAMILY = "give a new base of the same kind"
FEWER_BLOCKS = "give a new base with at least as many blocks"
OTHER_FUNCTION = "give three models that take the same inputs and compute alike"
OTHER_TOKENS = "all three models must share one vocabulary"
INPUTS = ("channel", "distance", "frame_id", "mel", "position_id", "type", "vocabulary")
"""How the names of spaces end whose units are read from samples."""
NEW_BASE = 1  # its place among the tuned model, the new base and the base, the order in which they are opened
WITHOUT_DATA = "the new base learns from samples; give --data, or a new base of the same configuration"
OTHER_HEAD = (
    "the new base cannot take the head of the tuned model; give three models with one head and one list of classes"
)
UNTRAINED = "the new base is trained; leave --effort quick out"
OTHER_OPTIONS = "the new base is not aligned; leave --groups and --match-on out"
UNTRAINED_MERGE = "least-squares"  # how models are merged if nothing is trained


def carry_options(options: dict[str, Any], has_data: bool, has_keep: bool) -> Options:
    """Return the options of `fuse` that carrying amounts to.

    Raises:
        ConfigError: an option does not apply.
    """
    check_carry([*options, *(["keep"] if has_keep else [])], has_data)
    merging = carry_merging(has_data)
    if options.get("merge", merging) != merging:
        raise ConfigError("merge: carrying chooses it itself; leave it out, or choose the effort")
    fixed = {"merge": merging, "match_on": "both" if has_data else "weights", "settings": "anchor"}
    uniform = {"teacher_weighting": "uniform"} if has_data else {}
    given = {name: value for name, value in options.items() if (name, value) != ("match_on", "auto")}
    chosen: Options = make(Options, fixed | uniform | given)
    if has_data and not chosen.learning().trains:
        return chosen.model_copy(update={"merge": UNTRAINED_MERGE})
    return chosen


def options_for(options: Options, new_base: Model, base: Model, tuned: Model, has_data: bool) -> Options:
    """Return the options that these models need.

    The head of the tuned model is kept if some model has another head or other classes. A new base whose widths the
    base cannot get is not aligned, and learns from the tuned model.

    Raises:
        ConfigError: the models do not take the same inputs or compute differently, or the base cannot get the widths
            of the new base, and there are no samples, no training, a new head, or options of an alignment.
    """
    models = (new_base, base, tuned)
    new_name, base_name, tuned_name = names_by_role(models)
    for name, other, is_same in ((base_name, "base", base == tuned), (new_name, "new base", new_base == tuned)):
        if is_same:
            raise ConfigError(f"{name}: is both the {other} and the tuned model, so there is nothing to carry")
    empty = [empty_model(model, options) for model in models]
    for name, model, advice in ((new_name, empty[0], OTHER_FAMILY), (tuned_name, empty[2], OTHER_TUNED)):
        for field, own, other in (
            ("model_type", model.config.model_type, empty[1].config.model_type),
            ("base_model", type(model.base_model).__name__, type(empty[1].base_model).__name__),
        ):
            if own != other:
                raise ConfigError(f"{name}: its {field} is {own}, that of the base is {other}; {advice}")
    new_depth, blocks, tuned_depth = (depth(each.config) for each in empty)
    if tuned_depth != blocks:
        raise ConfigError(f"{tuned_name}: has {tuned_depth} blocks, the base has {blocks}; {SAME_SHAPE}")
    if new_depth and blocks and new_depth < blocks:
        raise ConfigError(f"{new_name}: has {counted(new_depth, 'block')}, the base has {blocks}; {FEWER_BLOCKS}")
    _check_same_tokens(models)
    ordered = [in_anchor_order(empty[2].config, each.config, type(each).__name__) for each in empty]
    classes = [tuple((config.id2label or {}).items()) for config in ordered]
    heads = {(type(each), own, problem_type(each.config)) for each, own in zip(empty, classes, strict=True)}
    changes: dict[str, Any] = {} if len(heads) == 1 else {"head": "anchor"}
    order, names = [empty[2], *empty[:2]], [tuned_name, new_name, base_name]
    unresized = options.model_copy(update={**changes, "align": "none"})  # keeps widths, which may have to stay
    _check_alike(with_anchor_form(order, names, unresized, like=NEW_BASE), names)
    if reason := _why_not_aligned(order, names):
        for is_wrong, message in (
            (not has_data, WITHOUT_DATA),
            (bool(changes), OTHER_HEAD),
            (not options.learning().trains, UNTRAINED),
            (options.groups != "all" or options.match_on != "both", OTHER_OPTIONS),
        ):
            if is_wrong:
                raise ConfigError(f"{reason}, so {message}")
        changes = {"align": "none"}
    return options.model_copy(update=changes)


def has_other_widths(model: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Return whether spaces of two models have different numbers of units, in the same layers."""
    units, other_units = (
        {name: space.units for name, space in unfused(declaration(each)).spaces().items() if space.free}
        for each in (model, other)
    )
    shared = units.keys() & other_units.keys()
    return any(units[name] != other_units[name] for name in shared)


def _why_not_aligned(empty: Sequence[PreTrainedModel], names: Sequence[str]) -> str | None:
    """Return why the base cannot get the widths of the new base at the same function; None if it can, or has them.

    Args:
        empty: the tuned model, the new base and the base, without weights.
    """
    _, new_base, base = empty
    if not has_other_widths(new_base, base):
        return None
    _, new_name, base_name = names
    try:
        resized, _ = with_anchor_sizes([base, new_base], [base_name, new_name], like=1)
    except ConfigError as error:
        return str(error).rpartition("; ")[0]  # without the advice, which is for fusions
    if not has_other_widths(new_base, resized):
        return None
    return f"{base_name}: has other widths than {new_name}, and they cannot be changed"


def _check_same_tokens(models: Sequence[Model]) -> None:
    """Raise `ConfigError` if the tokenizer of the new base or of the base is not that of the tuned model.

    Args:
        models: the new base, the base and the tuned model. Loaded models have no tokenizer, and are not compared.
    """
    if any(isinstance(model, PreTrainedModel) for model in models):
        return
    folders = [local_directory(str(model), "allow") for model in models]
    *others, tuned = (vocabulary(folder) for folder in folders)
    for name, tokens in zip(models, others, strict=False):
        if tokens is not None and tuned is not None and tokens != tuned:
            differing = differing_tokens(tokens, tuned)
            raise ConfigError(f"{models[-1]}: its tokenizer differs from that of {name} in {differing}; {OTHER_TOKENS}")


def _check_alike(models: Sequence[PreTrainedModel], names: Sequence[str]) -> None:
    """Raise `ConfigError` unless all compute alike, on inputs of one size, and the tuned model has its base's shape.

    Args:
        models: the tuned model, the new base and the base, in the form of the tuned model.
    """
    tuned = models[0]
    architecture = type(tuned).__name__
    shapes = ((_inputs, OTHER_FUNCTION), (_units, SAME_SHAPE))
    for index, (measure, shape_advice) in enumerate(shapes, 1):
        name, config = names[index], models[index].config
        if is_padded(models, names, index):
            config = with_rows(config, tuned.config.vocab_size)
        functions = differences(tuned.config, config, architecture)
        sizes = shape_differences(tuned.config, config, architecture, measure)
        for found, advice in ((functions, OTHER_FUNCTION), (sizes, shape_advice)):
            for field in found:
                hint = TOKEN_ADVICE.get(field.path.rpartition(".")[2], advice)
                values = f"{field.path} is {field.source!r:.80}, that of {names[0]} is {field.anchor!r:.80}"
                raise ConfigError(f"{name}: {values}; {hint}")


def _inputs(spec: Spec) -> dict[str, int]:
    """Return the numbers of tokens, positions and the like, by the name of their space."""
    return {name: count for name, count in _units(spec).items() if name.endswith(INPUTS)}


def _units(spec: Spec) -> dict[str, int]:
    """Return the numbers of all units, by the name of their space."""
    axes = [axis for axes in unfused(spec).tensors().values() for axis in axes]
    return {space.name: space.units for axis in axes for space in axis.spaces()}


def names_by_role(models: Sequence[Model]) -> list[str]:
    """Return what to call the new base, the base and the tuned model: their paths, or the roles of loaded models."""
    return [
        f"the {role} model" if isinstance(model, PreTrainedModel) else str(model)
        for role, model in zip(ROLES, models, strict=True)
    ]


def check_differs(tuned: Network, other: Network, advice: str) -> None:
    """Raise `ConfigError` if the tuned model has the weights of another model, so that there is nothing to carry."""
    own = other.tensors
    if all(name in own and torch.equal(values, own[name]) for name, values in tuned.tensors.items()):
        raise ConfigError(f"{tuned.name}: has the weights of {other.name}, so there is nothing to carry; {advice}")
