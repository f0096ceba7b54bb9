"""A checkpoint's tensors under their names in memory, each read from its file when it is asked for."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from transfuse.base.lazy import Lazy
from transfuse.checkpoint.files import FLOAT8_DTYPES, weight_files
from transfuse.checkpoint.finite import check_finite
from transfuse.errors import CheckpointError


@dataclass(frozen=True)
class TensorLocation:
    """Where a tensor lies: the file, and its name and shape there."""

    file: Path
    name: str
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        """The tensor as it is stored, mapped from the file; what is not looked at is not read.

        Numbers of eight bits, with which hardly anything can be computed, are given in bfloat16.
        """
        with safe_open(self.file, framework="pt") as opened:
            values = opened.get_tensor(self.name)
        return values.to(torch.bfloat16) if values.dtype in FLOAT8_DTYPES else values


def tensor_locations(directory: Path, model: PreTrainedModel) -> dict[str, TensorLocation] | None:
    """By the name in memory, where each tensor of a safetensors checkpoint lies.

    Args:
        model: of the checkpoint's class and configuration; needs no data.

    Returns:
        None for a checkpoint that can only be loaded whole: pickled, or with tensors that transformers takes apart or
        puts together (experts).
    """
    files = weight_files(directory, "allow")
    if files[0].suffix != ".safetensors":
        return None
    due, rename = model.state_dict(), _renaming(model)
    found: dict[str, TensorLocation] = {}
    for file in files:
        with safe_open(file, framework="pt") as opened:
            for stored in opened.keys():  # noqa: SIM118 (no mapping)
                name, converted = rename(stored)
                if converted:
                    return None
                if name in due:
                    found[name] = TensorLocation(file, stored, tuple(opened.get_slice(stored).get_shape()))
    return found


def _renaming(model: PreTrainedModel) -> Callable[[str], tuple[str, bool]]:
    """From a name in a file to the one in memory, and whether transformers takes it apart or puts it together."""
    conversions = get_model_conversion_mapping(model)
    renamings = [each for each in conversions if isinstance(each, WeightRenaming)]
    converters = [each for each in conversions if isinstance(each, WeightConverter)]
    due, prefix = model.state_dict(), model.base_model_prefix

    def rename(stored: str) -> tuple[str, bool]:
        name, converted = rename_source_key(stored, renamings, converters, prefix, due)
        return (stored, False) if name not in due and stored in due else (name, converted is not None)

    return rename


def check_no_integer_weights(model: PreTrainedModel, stored: Collection[str], directory: Path) -> None:
    """Raise `CheckpointError` where a weight is stored as whole numbers: they mean nothing without their scales.

    Args:
        model: of the checkpoint's class and configuration; needs no data.
        stored: names, in the files, of tensors of whole numbers; positions and masks may be such.
    """
    due, rename = model.state_dict(), _renaming(model) if stored else None
    for name in sorted(stored):
        assert rename is not None
        values = due.get(rename(name)[0])
        if values is not None and values.is_floating_point():
            raise CheckpointError(
                f"{directory}: {name} is stored as whole numbers, or in another format of quantized weights; dequantize"
                " them and save them again first"
            )


def read_lazily(
    where: Mapping[str, TensorLocation], model: PreTrainedModel, device: torch.device, dtype: torch.dtype, source: str
) -> Lazy:
    """Every tensor of `model`, read when it is asked for, in one precision.

    Args:
        source: what to call the checkpoint in a complaint.

    Raises:
        CheckpointError: later, when a tensor is asked for that is not finite.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    stored = {id(parameters[name]): name for name in where if name in parameters}

    def read(name: str) -> Tensor:
        values = where[name].read()
        check_finite({name: values}, source)
        return values.to(device, dtype)

    return Lazy(
        {name: partial(read, name if name in where else stored[id(parameters[name])]) for name in model.state_dict()}
    )
