"""Writing a checkpoint tensor by tensor, with the tensor names and the files of another one."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.checkpoint.reading.finite import check_finite
from transfuse.checkpoint.reading.lazy_tensors import Location, tensor_locations
from transfuse.checkpoint.reading.load import load_empty
from transfuse.checkpoint.writing.legacy_config import add_legacy_keys
from transfuse.checkpoint.writing.safetensors_writer import write_shards
from transfuse.checkpoint.writing.save import save_generation
from transfuse.errors import CheckpointError, OutputError

Shapes = dict[str, tuple[int, ...]]


def write_like(
    folder: Path,
    locations: Mapping[str, Location],
    model: PreTrainedModel,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    ticks: Iterator[object],
    name: str,
) -> None:
    """Write the weights, the configuration and the generation settings of a model, and verify names and shapes.

    Memory holds one tensor at a time, such as the weights of all experts of a layer.

    Args:
        locations: the tensors of a checkpoint of the same class, whose names and files are taken.
        model: the model to write, whose own tensors may be empty. Its configuration gets the dtype.
        tensors: the tensors, by their names in the model, computed on access.
        ticks: is advanced once for each tensor.
        name: what to call the model in messages.

    Raises:
        OutputError: the written tensors do not match the configuration.
    """
    expected = model.state_dict()
    shapes = {key: tuple(expected[key].shape) for key in locations}
    shards: dict[str, Shapes] = {}
    owners: dict[str, str] = {}
    for key, location in locations.items():
        parts = location.split(torch.empty(shapes[key], device="meta"))
        shard = shards.setdefault(location.parts[0].file.name, {})
        shard.update({part: tuple(values.shape) for part, values in parts.items()})
        owners |= dict.fromkeys(parts, key)
    current: tuple[str, dict[str, Tensor]] = ("", {})

    def compute(part: str) -> Tensor:
        nonlocal current
        key = owners[part]
        if current[0] != key:
            current = ("", {})  # before the next one takes memory
            values = tensors[key]
            check_finite({key: values}, name)
            current = (key, locations[key].split(values))
            next(ticks, None)
        return current[1][part]

    write_shards(folder, shards, dtype, compute)
    next(ticks, None)
    model.config.dtype = dtype
    model.config.architectures = [type(model).__name__]  # as save_pretrained does, whatever class the files named
    model.config.save_pretrained(folder)
    add_legacy_keys(folder)
    save_generation(model, folder)
    _verify(shapes, folder)


def _verify(shapes: Shapes, folder: Path) -> None:
    """Raise `OutputError` unless the tensors in the files have these shapes."""
    try:
        written = tensor_locations(folder, load_empty(folder)) or {}
    except CheckpointError as error:
        raise OutputError(f"{folder}: the written checkpoint does not load again: {error}") from error
    if any(key not in written or written[key].shape != shape for key, shape in shapes.items()):
        raise OutputError(
            f"{folder}: the shapes of the written tensors differ from those of its config.json; choose another output"
            " directory"
        )
