"""A model whose query heads share keys and values, with keys and values of its own for each, at the same function."""

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.network.axes import leaves
from transfuse.network.layout import unfused
from transfuse.network.model import declaration, empty_like, unfused_tensors, with_tensors
from transfuse.network.operations import Axes
from transfuse.network.sizes import Sizes, resized, sizes_of


def served(sizes: Sizes) -> int:
    """Return the number of query heads for each key-value head."""
    return sizes.heads // sizes.kv_heads if sizes.heads and sizes.kv_heads else 1


def shares_keys(own: PreTrainedConfig, other: PreTrainedConfig) -> bool:
    """Return whether query heads share keys in one model, and do not in another."""
    return served(sizes_of(own)) > 1 == served(sizes_of(other))


def own_keys_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """Return a configuration with a key-value head for each query head, and otherwise the same."""
    heads = sizes_of(config).heads
    return resized(config, Sizes(heads=heads, kv_heads=heads))


def with_own_keys(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model with a key-value head for each query head that computes what a model does."""
    times = served(sizes_of(model.config))
    axes = unfused(declaration(model)).tensors()
    tensors = {name: _repeated(values, axes[name], times) for name, values in unfused_tensors(model).items()}
    return with_tensors(empty_like(model, own_keys_config(model.config)), tensors)


def _repeated(tensor: Tensor, axes: Axes, times: int) -> Tensor:
    """Return a tensor in which what belongs to a group of heads is repeated for each query head of the group."""
    sizes = [axis.size for axis in axes]
    for number, axis in enumerate(axes):
        spaces = [space for space, _ in leaves(axis)]
        kinds = [space.name.rpartition(".")[2] for space in spaces]
        if "group" in kinds and "query" not in kinds:
            sizes[number] *= times
            place = kinds.index("group")
            values = tensor.unflatten(number, [space.units for space in spaces])
            tensor = values.repeat_interleave(times, number + place).flatten(number, number + len(spaces) - 1)
    return tensor.reshape(sizes)
