"""The tensors of a checkpoint under their names in the model, each read from its file when it is accessed."""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from transfuse.base.lazy import Lazy
from transfuse.checkpoint.reading.files import weight_files
from transfuse.checkpoint.reading.finite import check_finite
from transfuse.checkpoint.reading.joined_tensors import JoinedLocation, StoredPart, joined_location
from transfuse.checkpoint.reading.tensor_location import TensorLocation
from transfuse.errors import CheckpointError

Location = TensorLocation | JoinedLocation
"""Where a tensor of a model is stored."""


def tensor_locations(folder: Path, model: PreTrainedModel) -> dict[str, Location] | None:
    """Return the location of each tensor of a safetensors checkpoint, by its name in the model.

    Args:
        model: a model of the checkpoint's class and configuration, possibly on the meta device.

    Returns:
        The locations; None for a checkpoint that can only be loaded as a whole, because it is pickled, has tensors
        that transformers splits, or lacks some that transformers computes (Marian's positions).
    """
    files = weight_files(folder, "allow")
    if files[0].suffix != ".safetensors":
        return None
    expected = model.state_dict()
    rename = _renaming(model)
    locations: dict[str, Location] = {}
    joined: dict[str, tuple[WeightConverter, list[StoredPart]]] = {}
    for file in files:
        with safe_open(file, framework="numpy") as opened:  # which maps the file only for reading
            for stored in opened.keys():  # noqa: SIM118 (not a mapping)
                name, pattern, converter = rename(stored)
                location = TensorLocation(file, stored, tuple(opened.get_slice(stored).get_shape()))
                if converter is not None and pattern is not None:
                    joined.setdefault(name, (converter, []))[1].append(StoredPart(pattern, location))
                elif name in expected:
                    locations[name] = location
    for name, (converter, parts) in joined.items():
        found = joined_location(model, name, converter, parts)
        if found is None:
            return None
        locations[name] = found
    owners = stored_owners(model, locations)
    return locations if all(name in owners for name, _ in model.named_parameters()) else None


def stored_owners(model: PreTrainedModel, stored: Collection[str]) -> dict[str, str]:
    """Return the name by which each tensor of a model is stored: its own, or that of a parameter that it is tied to.

    Tensors that are not stored are left out.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tied = {id(parameters[name]): name for name in stored if name in parameters}
    owners = {name: name if name in stored else tied.get(id(parameters.get(name))) for name in model.state_dict()}
    return {name: owner for name, owner in owners.items() if owner is not None}


def _renaming(model: PreTrainedModel) -> Callable[[str], tuple[str, str | None, WeightConverter | None]]:
    """Return a function from a name in a file to the name in the model, and how transformers splits or joins it.

    This is the pattern that the name has, and the converter of tensors with such names; None for a tensor that is
    stored as it is.
    """
    conversions = get_model_conversion_mapping(model)
    renamings = [conversion for conversion in conversions if isinstance(conversion, WeightRenaming)]
    converters = [conversion for conversion in conversions if isinstance(conversion, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    expected = model.state_dict()
    prefix = model.base_model_prefix

    def rename(stored: str) -> tuple[str, str | None, WeightConverter | None]:
        name, pattern = rename_source_key(stored, renamings, converters, prefix, expected)
        if name not in expected and stored in expected:
            return stored, None, None
        return name, pattern, None if pattern is None else by_pattern[pattern]

    return rename


def names_in_model(model: PreTrainedModel, stored: Iterable[str]) -> dict[str, str]:
    """Return the names in a model of the stored tensors that it has, by their names in the files."""
    expected = model.state_dict()
    rename = _renaming(model)
    names = {name: rename(name)[0] for name in stored}
    return {name: found for name, found in names.items() if found in expected}


def check_no_integer_weights(model: PreTrainedModel, stored: Collection[str], folder: Path) -> None:
    """Check that no weight is stored as integers, which mean nothing without their scales.

    Args:
        model: a model of the checkpoint's class and configuration, possibly on the meta device.
        stored: names, in the files, of integer tensors; buffers such as positions and masks may be among them.

    Raises:
        CheckpointError: a weight is stored as integers.
    """
    if not stored:
        return
    expected = model.state_dict()
    for name, found in sorted(names_in_model(model, stored).items()):
        if expected[found].is_floating_point():
            raise CheckpointError(
                f"{folder}: {name} is stored as whole numbers, or in another format of quantized weights; dequantize"
                " them and save them again first"
            )


def read_lazily(
    locations: Mapping[str, Location],
    model: PreTrainedModel,
    device: torch.device,
    dtype: torch.dtype,
    source: str,
) -> Lazy:
    """Return all tensors of `model`, each read when it is accessed, on one device and in one dtype.

    Args:
        source: name of the checkpoint, for error messages.

    Raises:
        CheckpointError: on access to a tensor that is not finite.
    """

    def read(name: str) -> Tensor:
        values = locations[name].read()
        check_finite({name: values}, source)
        return values.to(device, dtype)

    return Lazy({name: partial(read, owner) for name, owner in stored_owners(model, locations).items()})


def stored_tensors(folder: Path, model: PreTrainedModel) -> Lazy | None:
    """Return the tensors of a checkpoint by their names in the model, each in its own precision when it is accessed.

    Tensors that the checkpoint lacks are left out. None for a checkpoint that can only be loaded as a whole.

    Args:
        model: a model of the checkpoint's class and configuration, perhaps with a head that the checkpoint lacks.
    """
    locations = tensor_locations(folder, model)
    if locations is None:
        return None
    return Lazy({name: locations[owner].read for name, owner in stored_owners(model, locations).items()})
