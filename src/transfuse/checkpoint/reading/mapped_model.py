"""A model whose weights stay in their files, mapped, and can be run nevertheless.

What is computed from its weights and used again is written to temporary files and mapped as well.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from mmap import mmap
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.lazy import Lazy
from transfuse.base.memory_limit import without_memory_limit
from transfuse.checkpoint.reading.finite import check_finite
from transfuse.checkpoint.reading.joined_tensors import JoinedLocation
from transfuse.checkpoint.reading.lazy_tensors import Location, stored_owners, tensor_locations
from transfuse.checkpoint.reading.mapped_tensors import Extent, stored_extents
from transfuse.checkpoint.reading.spill import TensorSpill
from transfuse.checkpoint.reading.tensor_location import TensorLocation
from transfuse.errors import CheckpointError
from transfuse.network.model import Network, network
from transfuse.network.precision import compute_dtype, matmul_dtype
from transfuse.network.reconfigured import empty_like


def mapped_network(folder: Path, model: PreTrainedModel, spill: TensorSpill) -> Network:
    """Return a checkpoint as a network that runs, all of whose tensors are mapped.

    Args: as for `map_model`.

    Raises:
        CheckpointError: as by `map_model`.
        SpecError: the weights do not match the declaration.
    """
    mapped = map_model(folder, model, spill)
    ready = network(mapped, mapped.device, str(folder), spill)
    return replace(ready, matmul_dtype=matmul_dtype(model.dtype), stored_dtype=model.dtype)


def map_model(folder: Path, model: PreTrainedModel, spill: TensorSpill) -> PreTrainedModel:
    """Return a model in the precision of the computation, as `load_model` and `network` do, but with mapped weights.

    Weights that are stored in that precision are mapped from the checkpoint. The others are converted, and mapped from
    a temporary file. The weights must not be changed.

    Args:
        model: the model as `load_empty` returns it.

    Raises:
        CheckpointError: the tensors are not stored one by one as safetensors, or are not finite.
    """
    locations = tensor_locations(folder, model)
    if locations is None:
        raise CheckpointError(f"{folder}: its tensors are not stored one by one as safetensors; load it")
    dtype = compute_dtype(model.dtype)
    return _with_tensors(model, spill(_tensors(locations, model, dtype, str(folder), spill)), dtype)


def mapped_zeros(model: PreTrainedModel, config: PreTrainedConfig, spill: TensorSpill) -> PreTrainedModel:
    """Return a model of the same class and precision, of another configuration. Its weights are zeros, and may change.

    They are mapped from a temporary file, to which the system writes them when memory is short.
    """
    empty = empty_like(model, config, torch.device("meta"))
    parameters = dict(empty.named_parameters())
    stored = {name: values for name, values in empty.state_dict().items() if name in dict(empty.named_buffers())}
    tensors = spill.zeros({name: values.shape for name, values in parameters.items()}, model.dtype)
    tensors |= {name: torch.zeros(values.shape, dtype=values.dtype) for name, values in stored.items()}
    return _with_tensors(empty, tensors, model.dtype)


def _with_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> PreTrainedModel:
    """Return a model whose parameters are these tensors, with buffers in memory.

    Args:
        tensors: all parameters, tied ones once, and stored buffers.
    """
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(tensors[name], requires_grad=parameter.requires_grad)
        for name, parameter in model.named_parameters()
    }
    mapped = copy.deepcopy(model, memo)
    for name, values in _buffers(model, dtype).items():
        owner, _, buffer = name.rpartition(".")
        persistent = name in tensors
        kept = tensors[name].to(values.dtype, copy=True) if persistent else values
        mapped.get_submodule(owner).register_buffer(buffer, kept, persistent=persistent)
    return mapped.eval()


def _tensors(
    locations: Mapping[str, Location], model: PreTrainedModel, dtype: torch.dtype, source: str, spill: TensorSpill
) -> Lazy:
    """Return all parameters and stored buffers of a model; those that are stored as they are needed are mapped."""
    owners = stored_owners(model, locations)

    @cache
    def opened(file: Path) -> tuple[mmap, dict[str, Extent]]:
        with file.open("rb") as stream:
            return spill.map(stream), stored_extents(stream)

    def read(name: str) -> Tensor:
        location = locations[name]
        values = None if isinstance(location, JoinedLocation) else mapped(location)
        if values is None:
            values = location.read()
            values = values.to(dtype) if values.is_floating_point() else values
        check_finite({name: values}, source)
        return values

    def mapped(location: TensorLocation) -> Tensor | None:
        mapping, extents = opened(location.file)
        extent = extents.get(location.name)
        return extent.view(mapping) if extent is not None and extent.dtype == dtype and extent.is_aligned else None

    names = [name for name, _ in model.named_parameters()]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    stored_buffers = [name for name in model.state_dict() if name not in parameters]
    return Lazy({name: partial(read, owners[name]) for name in [*names, *stored_buffers]})


def _buffers(model: PreTrainedModel, dtype: torch.dtype) -> dict[str, Tensor]:
    """Compute the buffers of a model, such as positions and rotary frequencies."""
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with without_memory_limit(), init_empty_weights(include_buffers=False):
            fresh = type(model)(copy.deepcopy(model.config))
    finally:
        torch.set_default_dtype(previous)
    for module in fresh.modules():
        if any(True for _ in module.buffers(recurse=False)):
            fresh._init_weights(module)  # as `from_pretrained` does, for what is not stored
    return dict(fresh.named_buffers())
