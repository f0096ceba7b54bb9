"""Blocks that do nothing, between the blocks of a model with fewer blocks than the anchor.

A block whose branches write zeros leaves the residual stream as it is, so that the function stays. Where norms follow
the additions (BERT), the gain and the bias of the norm in front move behind the new block, because a norm changes
nothing in what is normalized already.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.activations.execution_order import block_stack
from transfuse.fusion.sizes.block_operations import block_operations, stream_norms
from transfuse.network.model import Network, declaration
from transfuse.network.operations import Junction, Linear, Norm
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import Sizes, block_settings, resized, set_block_setting, sizes_of
from transfuse.network.spec import Spec
from transfuse.shrinking.blocks import Blocks


def with_idle_blocks(
    model: PreTrainedModel, count: int, places: Sequence[int], like: PreTrainedConfig | None = None
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
        set_block_setting(config, name, settings)
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


def idle_tensors(network: Network) -> set[str]:
    """Return the names of all tensors without any effect, because their block writes zeros."""
    count = sizes_of(network.model.config).layers or 0
    stack, _ = block_stack(network.model, count)
    names: set[str] = set()
    for block in (block_operations(network.spec, f"{stack}.{number}.") for number in range(count)):
        branches = [op.branch for op in block.ops if isinstance(op, Junction)]
        writers = [op for op in block.linears() if op.writes in branches]
        if not any(network.tensors[name].any() for op in writers for name in op.tensors()):
            living = stream_norms(block)
            names |= {name for op in block.ops if op not in living for name in op.tensors()}
    return names


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
