"""Models with fewer blocks than the anchor: blocks that do nothing are put between their own.

A block whose branches write zeros leaves the residual stream as it is, so that the function stays. Where norms follow
the additions (BERT), the gain and the bias of the norm in front move behind the new block, because a norm changes
nothing in what is normalized already. Which blocks of two models belong together is decided by their streams on
samples, and by even spacing without samples.
"""

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from transfuse.activations.execution_order import block_stack
from transfuse.base.batch import cast
from transfuse.base.counted import counted
from transfuse.errors import ConfigError, SpecError
from transfuse.fusion.block_order import best_places, evenly_spaced, same_kind
from transfuse.network.inputs import model_inputs
from transfuse.network.model import declaration
from transfuse.network.operations import Junction, Linear, Norm
from transfuse.network.outputs import model_output
from transfuse.network.precision import as_dtype, compute_dtype
from transfuse.network.sizes import Sizes, block_settings, resized, sizes_of
from transfuse.network.spec import Spec

TOLERANCE = 1e-3  # largest change of an output, relative to the largest output, that is rounding

SimilarityFn = Callable[[PreTrainedModel, PreTrainedModel], Float[Tensor, "own place"] | None]
"""Returns how similar each block of a source, the second model, is to each of the anchor; None: it is unknown."""


def depth(config: PretrainedConfig) -> int | None:
    """Return the number of blocks of a model; None if it has several stacks, or if the number is unknown."""
    try:
        return sizes_of(config).layers
    except SpecError:
        return None


def with_equal_depth(
    models: Sequence[PreTrainedModel],
    names: Sequence[str],
    similarity: SimilarityFn | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[PreTrainedModel]:
    """Return models with as many blocks as the first, the anchor, and the same functions.

    Args:
        models: models whose tensors may be empty. A model of another kind than the anchor is returned as it is.
        names: what to call them in messages.
        similarity: decides where the blocks of a model with fewer blocks go; None: they are spaced evenly.
        tell: gets a line on every model that changes.

    Raises:
        ConfigError: a model has more blocks than the anchor, or blocks cannot be put between its own.
    """
    anchor, *sources = models
    return [anchor, *(_with_depth(anchor, *pair, similarity, tell) for pair in zip(sources, names[1:], strict=True))]


def _with_depth(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    name: str,
    similarity: SimilarityFn | None,
    tell: Callable[[str], None],
) -> PreTrainedModel:
    own, wanted = (depth(model.config) for model in (source, anchor))
    alike = source.config.model_type == anchor.config.model_type
    if not alike or own is None or wanted is None or own == wanted:
        return source
    depths = f"{name}: has {counted(own, 'block')}, the anchor has {wanted}"
    if own > wanted:
        raise ConfigError(
            f"{depths}; put it first, so that it is the anchor, or make it smaller with `transfuse shrink"
            f" {name} --layers {wanted}`"
        )
    if not block_stack(source, own)[0]:
        raise ConfigError(
            f"{depths}, and no blocks can be put between those of a {type(source).__name__}; fuse models of equal depth"
        )
    is_empty = source.device.type == "meta"
    found = None if similarity is None or is_empty else similarity(anchor, source)
    try:
        allowed = same_kind(source.config, anchor.config, own, wanted)
        chosen = best_places(evenly_spaced(own, wanted) if found is None else found, allowed)
    except ConfigError as error:
        raise ConfigError(
            f"{depths}, and {error} (such as layer_types in config.json); fuse models of equal depth"
        ) from error
    deeper = with_idle_blocks(source, wanted, chosen, anchor.config)
    if not is_empty:
        _check_function(source, deeper, name)
        tell(
            f"{depths}; they take the places"
            f" {', '.join(map(str, chosen))} (from 0), and blocks that do nothing take the others"
        )
    return deeper


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
    with torch.device(model.device):
        deeper = type(model)(config).to(model.dtype).eval()
    if model.device.type == "meta":
        return deeper
    stack, _ = block_stack(model, len(places))
    stored = model.state_dict()
    tensors = dict(deeper.state_dict())
    for name in tensors:
        block, _, rest = name.removeprefix(f"{stack}.").partition(".")
        in_block = name.startswith(f"{stack}.") and block.isdigit()
        own = f"{stack}.{sources[int(block)]}.{rest}" if in_block else name
        if own in stored:  # or else a tensor that only some blocks have
            tensors[name] = stored[own]
    idle = [block for block in range(count) if block not in places]
    spec = declaration(deeper)
    for block in idle:
        _silence(tensors, _operations(spec, f"{stack}.{block}."))
    for block in idle:
        _move_norms(tensors, *(_operations(spec, f"{stack}.{number}.") for number in (block - 1, block)))
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


def _operations(spec: Spec, prefix: str) -> Spec:
    """Return the operations of a block, with the additions between and behind them."""
    named = [index for index, op in enumerate(spec.ops) if getattr(op, "name", "").startswith(prefix)]
    first, last = named[0], named[-1]
    while last + 1 < len(spec.ops) and isinstance(spec.ops[last + 1], Junction):
        last += 1
    return Spec(spec.family, spec.ops[first : last + 1])


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
    last, norms = _stream_norms(before)[-1:], _stream_norms(idle)
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


def _stream_norms(block: Spec) -> list[Norm]:
    """Return the norms of a block whose output is the stream, and not just what a layer reads."""
    sums = [op.space for op in block.ops if isinstance(op, Junction)]
    read = {op.norm for op in block.ops if isinstance(op, Linear)}
    return [op for op in block.ops if isinstance(op, Norm) and op.space in sums and op.name not in read]


@torch.no_grad()
def _check_function(model: PreTrainedModel, deeper: PreTrainedModel, name: str) -> None:
    dtype = compute_dtype(model.dtype)
    model, deeper = (each if each.dtype == dtype else as_dtype(copy.deepcopy(each), dtype) for each in (model, deeper))
    inputs: Mapping[str, Tensor] = cast(model_inputs(model), dtype)
    expected, found = (
        model_output(each, {key: values.to(each.device) for key, values in inputs.items()}) for each in (model, deeper)
    )
    if (expected - found).abs().max() > TOLERANCE * expected.abs().max():
        raise ConfigError(
            f"{name}: a {type(model).__name__} with other blocks between its own computes something else; fuse models"
            " of equal depth"
        )
