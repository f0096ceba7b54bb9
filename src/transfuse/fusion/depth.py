"""Models whose depth is not that of the anchor.

A model with more blocks gives up some of them (`fewer_blocks`). A model with fewer blocks keeps its function: blocks
that do nothing are put between its own.

A block whose branches write zeros leaves the residual stream as it is, so that the function stays. Where norms follow
the additions (BERT), the gain and the bias of the norm in front move behind the new block, because a norm changes
nothing in what is normalized already. Which blocks of two models belong together is decided by their streams on
samples, and by even spacing without samples.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from transfuse.activations.execution_order import block_stack
from transfuse.base.batch import cast, on_device
from transfuse.base.counted import counted
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.block_operations import block_operations, stream_norms
from transfuse.fusion.block_order import best_places, evenly_spaced, has_in_order, has_places, same_kind
from transfuse.fusion.depth_samples import DepthSamples
from transfuse.fusion.fewer_blocks import with_fewer_blocks
from transfuse.network.inputs import model_inputs
from transfuse.network.model import converted, declaration, empty_like
from transfuse.network.operations import Junction, Linear, Norm
from transfuse.network.outputs import model_output
from transfuse.network.precision import as_dtype, compute_dtype
from transfuse.network.sizes import Sizes, block_settings, resized, sizes_of
from transfuse.network.spec import Spec
from transfuse.shrinking.blocks import Blocks, why_not_removable

TOLERANCE = 1e-3  # largest change of an output, relative to the largest output, that is rounding


def depth(config: PretrainedConfig) -> int | None:
    """Return the number of blocks of a model; None if it has several stacks, or if the number is unknown."""
    try:
        return sizes_of(config).layers
    except SpecError:
        return None


def deeper_models(given: Sequence[PreTrainedModel], used: Sequence[PreTrainedModel]) -> dict[int, PreTrainedModel]:
    """Return the models that had more blocks before `with_equal_depth` than after it, by their numbers.

    Args:
        given: the models before it.
        used: the models after it.
    """
    return {
        number: model
        for number, (model, other) in enumerate(zip(given, used, strict=True))
        if (depth(model.config) or 0) > (depth(other.config) or 0)
    }


def with_equal_depth(
    models: Sequence[PreTrainedModel],
    names: Sequence[str],
    samples: DepthSamples | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[PreTrainedModel]:
    """Return models with as many blocks as the first, the anchor.

    Models with fewer blocks keep their functions, and models with more keep them nearly.

    Args:
        models: models whose tensors may be empty. A model of another kind than the anchor is returned as it is.
        names: what to call them in messages.
        samples: decide where the blocks of a model with fewer blocks go, and which blocks a model with more gives up.
            None: blocks are spaced evenly, and no model may have more than the anchor.
        tell: gets a line on every model that changes.

    Raises:
        ConfigError: a model has more blocks than the anchor, and nothing tells which of them matter; or blocks cannot
            be left out, or put between its own.
    """
    anchor, *sources = models
    return [anchor, *(_with_depth(anchor, *pair, samples, tell) for pair in zip(sources, names[1:], strict=True))]


def _with_depth(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    name: str,
    samples: DepthSamples | None,
    tell: Callable[[str], None],
) -> PreTrainedModel:
    own, wanted = (depth(model.config) for model in (source, anchor))
    alike = source.config.model_type == anchor.config.model_type
    if not alike or own is None or wanted is None or own == wanted:
        return source
    depths = f"{name}: has {counted(own, 'block')}, the anchor has {wanted}"
    is_deeper = own > wanted
    if is_deeper and (samples is None or not samples.removes_blocks):
        advice = "give --data, which tells which of its blocks matter, or put" if samples is None else "put"
        raise ConfigError(f"{depths}; {advice} it first, so that it is the anchor")
    if reason := why_not_removable(source, own):
        change = "left out of it" if is_deeper else "put between its own"
        raise ConfigError(f"{depths}, and no blocks can be {change}: {reason}; fuse models of equal depth")
    allowed = same_kind(source.config, anchor.config, own, wanted)
    if not (has_in_order(allowed, range(own)) if is_deeper else has_places(allowed)):
        raise ConfigError(
            f"{depths}, and no places in order have blocks of the same kind (such as layer_types in config.json); fuse"
            " models of equal depth"
        )
    if source.device.type == "meta":
        return _empty(source, anchor.config, own, wanted)
    anchor, source = (converted(model, model.dtype, model.device) for model in (anchor, source))  # in eval mode
    if is_deeper and samples is not None:
        shallower, kept = with_fewer_blocks(anchor, source, name, samples, allowed)
        removed = [block for block in range(own) if block not in kept]
        tell(
            f"{depths}; it gives up {'block' if len(removed) == 1 else 'blocks'} {', '.join(map(str, removed))} (from"
            " 0), and its layers are fitted to the samples"
        )
        return shallower
    similarity = None if samples is None else samples.similarity(anchor, source)
    places = best_places(evenly_spaced(own, wanted) if similarity is None else similarity, allowed)
    deeper = with_idle_blocks(source, wanted, places, anchor.config)
    _check_function(source, deeper, name)
    tell(
        f"{depths}; they take the places {', '.join(map(str, places))} (from 0), and blocks that do nothing take the"
        " others"
    )
    return deeper


def _empty(source: PreTrainedModel, anchor: PretrainedConfig, own: int, wanted: int) -> PreTrainedModel:
    """Return a model without weights that has as many blocks as the anchor, of the same kinds."""
    config = resized(source.config, Sizes(layers=wanted), [min(block, own - 1) for block in range(wanted)])
    settings = block_settings(anchor, wanted)
    for name in block_settings(config, wanted).keys() & settings.keys():
        setattr(config, name, settings[name])
    return empty_like(source, config)


def with_idle_blocks(
    model: PreTrainedModel, count: int, places: Sequence[int], like: PretrainedConfig | None = None
) -> PreTrainedModel:
    """Return a model with more blocks and the same function.

    Args:
        count: the number of blocks.
        places: the numbers that the model's own blocks get, in order, from 0.
        like: a configuration with this number of blocks, whose settings the new blocks have.
    """
    sources = [max(own for own, place in enumerate(places) if place <= block) for block in range(count)]
    config = resized(model.config, Sizes(layers=count), sources)
    mine, others = block_settings(config, count), {} if like is None else block_settings(like, count)
    for name in mine.keys() & others.keys():
        settings = [mine[name][block] if block in places else value for block, value in enumerate(others[name])]
        setattr(config, name, type(mine[name])(settings))
    deeper = empty_like(model, config)
    stack, _ = block_stack(model, len(places))
    stored = model.state_dict()
    tensors = dict(deeper.state_dict())
    blocks = Blocks(stack, len(places), tuple(sources))
    for name in tensors:
        own = blocks.large_name(name)
        if own in stored:  # or else a tensor that only some blocks have
            tensors[name] = stored[own]
    idle = [block for block in range(count) if block not in places]
    spec = declaration(deeper)
    for block in idle:
        _silence(tensors, block_operations(spec, f"{stack}.{block}."))
    for block in idle:
        _move_norms(tensors, *(block_operations(spec, f"{stack}.{number}.") for number in (block - 1, block)))
    deeper.load_state_dict(tensors)
    _copy_buffers(model, deeper)
    return deeper


def _copy_buffers(model: PreTrainedModel, deeper: PreTrainedModel) -> None:
    """Copy buffers that are not stored, such as rotary frequencies, whose precision is not that of the weights."""
    own = dict(model.named_buffers())
    stored = deeper.state_dict().keys()
    for name, values in list(deeper.named_buffers()):
        if name in own and name not in stored and own[name].shape == values.shape:
            module, _, buffer = name.rpartition(".")
            deeper.get_submodule(module).register_buffer(buffer, own[name].clone(), persistent=False)


def _silence(tensors: dict[str, Tensor], block: Spec) -> None:
    """Make all that a block adds to the stream zero."""
    branches = [op.branch for op in block.ops if isinstance(op, Junction)]
    for op in block.ops:
        if isinstance(op, Linear) and op.writes in branches:
            for name in op.tensors():
                tensors[name] = torch.zeros_like(tensors[name])
        elif isinstance(op, Norm) and op.space in branches and op.bias:
            tensors[f"{op.name}.{op.bias}"] = torch.zeros_like(tensors[f"{op.name}.{op.bias}"])


def _move_norms(tensors: dict[str, Tensor], before: Spec, idle: Spec) -> None:
    """Make the norms behind the additions of an idle block do nothing, except that the last takes the place of the one
    in front of the block.
    """
    last, norms = stream_norms(before)[-1:], stream_norms(idle)
    if not last or not norms:
        return
    moved = {name: tensors[name] for name in last[0].tensors()}
    for norm in [*last, *norms]:
        if norm.has_gain:
            tensors[norm.gain] = torch.full_like(tensors[norm.gain], 1 - norm.offset)
        if norm.bias:
            tensors[f"{norm.name}.{norm.bias}"] = torch.zeros_like(tensors[f"{norm.name}.{norm.bias}"])
    for name, values in moved.items():
        tensors[name.replace(last[0].name, norms[-1].name, 1)] = values


@torch.no_grad()
def _check_function(model: PreTrainedModel, deeper: PreTrainedModel, name: str) -> None:
    dtype = compute_dtype(model.dtype)
    model, deeper = (each if each.dtype == dtype else as_dtype(copy.deepcopy(each), dtype) for each in (model, deeper))
    inputs = cast(model_inputs(model), dtype)
    expected, found = (model_output(each, on_device(inputs, each.device)) for each in (model, deeper))
    if (expected - found).abs().max() > TOLERANCE * expected.abs().max():
        raise ConfigError(
            f"{name}: a {type(model).__name__} with other blocks between its own computes something else; fuse models"
            " of equal depth"
        )
