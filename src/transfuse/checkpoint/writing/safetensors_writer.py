"""Writing safetensors files tensor by tensor, with one tensor in memory at a time, from shapes known in advance."""

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from transfuse.checkpoint.reading.companions import SAFETENSORS_NAMES
from transfuse.checkpoint.reading.files import FLOAT_DTYPES
from transfuse.errors import SpecError

Shapes = Mapping[str, tuple[int, ...]]
DTYPE_NAMES = {dtype: name for name, dtype in FLOAT_DTYPES.items()}
ALIGNMENT = 8  # bytes; the data starts at a multiple of it


def write_shards(
    folder: Path, shards: Mapping[str, Shapes], dtype: torch.dtype, compute: Callable[[str], Tensor]
) -> None:
    """Write the weight files of a checkpoint, and an index unless there is one file with the default name.

    Args:
        shards: names and shapes of the tensors in each file, by file name.
        compute: returns a tensor by name, in `dtype` and on any device; called once per tensor, in order.

    Raises:
        SpecError: a computed tensor has another precision or shape.
    """
    for file, shapes in shards.items():
        _write_file(folder / file, shapes, dtype, compute)
    single, index = SAFETENSORS_NAMES
    if set(shards) != {single}:
        size = sum(dtype.itemsize * prod(shape) for shapes in shards.values() for shape in shapes.values())
        weight_map = {name: file for file, shapes in shards.items() for name in shapes}
        document = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (folder / index).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _write_file(file: Path, shapes: Shapes, dtype: torch.dtype, compute: Callable[[str], Tensor]) -> None:
    """Write one safetensors file: the length of the header, the header as JSON, and the data of all tensors."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start = end
        end += dtype.itemsize * prod(shape)
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = compute(name).cpu().contiguous()
            if (values.dtype, tuple(values.shape)) != (dtype, tuple(shape)):
                found = f"{values.dtype} of shape {tuple(values.shape)}"
                raise SpecError(f"{name}: is {found} instead of {dtype} of shape {tuple(shape)}; correct its shape")
            stream.write(values.flatten().view(torch.uint8).numpy().data)
