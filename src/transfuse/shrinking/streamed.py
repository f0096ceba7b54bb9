"""Fewer experts in a model that memory does not hold.

The weights of the large model are mapped from its files, and those of the small one from a temporary file. The system
keeps what is in use, which is one layer of each and the streams of the samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.budget import FLOAT_BYTES, check_free_memory, free_bytes
from transfuse.base.lazy import Lazy
from transfuse.base.memory_limit import allowed_bytes
from transfuse.checkpoint.reading.lazy_tensors import tensor_locations
from transfuse.checkpoint.reading.load import Model, load_empty, local_directory
from transfuse.checkpoint.reading.spill import TensorSpill
from transfuse.checkpoint.writing.save import Writer
from transfuse.checkpoint.writing.write_like import write_like
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.errors import ConfigError
from transfuse.network.sizes import Sizes, sizes_of

COPIES = 3  # of the large model's weights: as it was loaded, in the precision of the computation, and the small model
FREE_PART = 2  # of the free memory, more than which a loaded model should not take


def is_streamed(
    model: Model,
    empty: PreTrainedModel,
    possible: Sequence[Sequence[Sizes]],
    options: ShrinkOptions,
    wanted: bool | None = None,
) -> bool:
    """Return whether the large model stays in its files.

    Args:
        model: the model as it was passed by the user.
        empty: the model, whose tensors may be empty.
        possible: the sizes of the small model.
        wanted: what the user chose; None: it does if memory would not hold it, and that is possible.

    Raises:
        ConfigError: the user chose it, and it is not possible.
    """
    if wanted is False:
        return False
    reason = _obstacle(model, empty, possible, options)
    if wanted and reason:
        raise ConfigError(f"stream: the model must be loaded, because {reason}; leave stream out")
    free = free_bytes(torch.device("cpu"))
    limit = free // FREE_PART if allowed_bytes() is None else free
    return reason is None and (wanted or loaded_bytes(empty) > limit)


def checked_streaming(
    model: Model,
    empty: PreTrainedModel,
    possible: Sequence[Sequence[Sizes]],
    options: ShrinkOptions,
    warn: Callable[[str], None],
    wanted: bool | None = None,
) -> bool:
    """Return whether the large model stays in its files, and check that memory holds it if it does not.

    Args: as for `is_streamed`.

    Raises:
        ConfigError: as by `is_streamed`.
        MemoryLimitError: memory does not hold it.
    """
    streamed = is_streamed(model, empty, possible, options, wanted)
    if not streamed and not isinstance(model, PreTrainedModel):
        check_free_memory(loaded_bytes(empty), options.torch_device(), "shrinking", warn)
    return streamed


def loaded_bytes(empty: PreTrainedModel) -> int:
    """Return the memory that shrinking a loaded model takes, besides what samples take."""
    return COPIES * FLOAT_BYTES * empty.num_parameters()


def _obstacle(
    model: Model, empty: PreTrainedModel, possible: Sequence[Sequence[Sizes]], options: ShrinkOptions
) -> str | None:
    """Return why the model must be loaded; None if it can stay in its files."""
    own = sizes_of(empty.config)
    if isinstance(model, PreTrainedModel):
        return "it is in memory already"
    if own.experts is None or any(replace(sizes, experts=own.experts) != own for some in possible for sizes in some):
        return "more than the number of its experts changes"
    if options.learning().trains:
        return "training runs on it (effort quick does not train)"
    if options.torch_device().type != "cpu":
        return "it runs on a GPU"
    if tensor_locations(local_directory(model, options.pickle_policy()), empty) is None:
        return "its tensors are not stored as safetensors"
    return None


def with_precision(model: PreTrainedModel, dtype: torch.dtype, spill: TensorSpill) -> PreTrainedModel:
    """Convert the parameters of a mapped model, which stay mapped, and return it."""
    parameters = dict(model.named_parameters())
    converted = Lazy.of({name: parameter.detach() for name, parameter in parameters.items()})
    for name in parameters:
        converted.change(name, lambda values: values.to(dtype))
    for name, values in spill(converted).items():
        parameters[name].data = values
    model.config.dtype = dtype
    return model


def streamed_writer(model: PreTrainedModel, large: str | Path) -> Writer:
    """Return a function that writes a mapped model tensor by tensor, with the files of the large model."""

    def write(folder: Path) -> None:
        source = local_directory(large, "allow")
        locations = tensor_locations(source, load_empty(large)) or {}
        tensors: Mapping[str, Tensor] = model.state_dict()
        write_like(folder, locations, model, tensors, model.dtype, iter(()), "the small model")

    return write
