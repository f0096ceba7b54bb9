"""Query heads that share keys and values in one of two models only: the other one gets heads like it.

If the heads of the other model share nothing, keys and values are repeated. If only those of the other model share
them, each head gets further query heads, which read and write nothing. Both keep the function.
"""

from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.errors import SpecError
from transfuse.network.axes import leaves
from transfuse.network.families import declare
from transfuse.network.layout import unfused
from transfuse.network.model import unfused_tensors, with_tensors
from transfuse.network.operations import Axes
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import Sizes, resized, sizes_of


def served(sizes: Sizes) -> int:
    """Return the number of query heads for each key-value head."""
    return sizes.heads // sizes.kv_heads if sizes.heads and sizes.kv_heads else 1


def like_shared(own: PreTrainedConfig, other: PreTrainedConfig) -> PreTrainedConfig:
    """Return a configuration whose query heads share keys if those of the other do; itself if both agree in that.

    Raises:
        SpecError: more heads of this family would be smaller ones.
    """
    sizes, serves, other_serves = sizes_of(own), served(sizes_of(own)), served(sizes_of(other))
    assert sizes.heads
    if serves > 1 == other_serves:
        return resized(own, Sizes(heads=sizes.heads, kv_heads=sizes.heads))
    if serves == 1 < other_serves:
        more = Sizes(heads=sizes.heads * other_serves, kv_heads=sizes.heads, head_size=sizes.head_size)
        if sizes_of(shared := resized(own, more)).head_size != sizes.head_size:
            raise SpecError(f"{own.model_type}: heads that share keys would have fewer channels than {sizes.head_size}")
        return shared
    return own


def with_shared(model: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    """Return a model with the configuration that `like_shared` returned, which computes what a model does."""
    own, target = (unfused(declare(each, type(model).__name__)).tensors() for each in (model.config, config))
    times, fewer = served(sizes_of(model.config)), served(sizes_of(config))
    tensors = {
        name: _repeated(values, own[name], times) if times > 1 else _with_idle(values, target[name], fewer)
        for name, values in unfused_tensors(model).items()
    }
    return with_tensors(empty_like(model, config), tensors)


def _repeated(tensor: Tensor, axes: Axes, times: int) -> Tensor:
    """Return a tensor in which what belongs to a group of heads is repeated for each query head of the group."""
    for number, axis in enumerate(axes):
        spaces = [space for space, _ in leaves(axis)]
        kinds = [space.name.rpartition(".")[2] for space in spaces]
        if "group" in kinds and "query" not in kinds:
            values = tensor.unflatten(number, [space.units for space in spaces])
            values = values.repeat_interleave(times, number + kinds.index("group"))
            tensor = values.flatten(number, number + len(spaces) - 1)
    return tensor


def _with_idle(tensor: Tensor, axes: Axes, count: int) -> Tensor:
    """Return a tensor in which each query head is followed by others that are zero, `count` of them together.

    Args:
        axes: those of the result.
    """
    for number, axis in enumerate(axes):
        spaces = [space for space, _ in leaves(axis)]
        kinds = [space.name.rpartition(".")[2] for space in spaces]
        if "query" in kinds:
            place = number + kinds.index("query")
            values = tensor.unflatten(
                number, [1 if kind == "query" else space.units for kind, space in zip(kinds, spaces, strict=True)]
            )
            values = pad(values.movedim(place, -1), (0, count - 1)).movedim(-1, place)
            tensor = values.flatten(number, number + len(spaces) - 1)
    return tensor
