"""Writing safetensors tensor by tensor: sizes are known in advance, so that one tensor is in memory at a time."""

import json
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from transfuse.checkpoint.files import FLOAT_DTYPES, SAFETENSORS_NAMES

Shapes = Mapping[str, tuple[int, ...]]
NAMES = {dtype: name for name, dtype in FLOAT_DTYPES.items()}
ALIGNED = 8  # bytes: where the data begins


def write_shards(folder: Path, shards: Mapping[str, Shapes], dtype: torch.dtype, make: Callable[[str], Tensor]) -> None:
    """Write every file of a checkpoint, and an index where there are several or one has another name.

    Args:
        shards: by the name of each file the names and shapes of its tensors.
        make: each tensor, asked for once, in this order; of any device, in `dtype`.
    """
    for file, shapes in shards.items():
        _write(folder / file, shapes, dtype, make)
    if set(shards) != {SAFETENSORS_NAMES[0]}:  # one file of another name needs an index, too
        size = sum(dtype.itemsize * prod(shape) for shapes in shards.values() for shape in shapes.values())
        weights = {name: file for file, shapes in shards.items() for name in shapes}
        document = {"metadata": {"total_size": size}, "weight_map": weights}
        (folder / SAFETENSORS_NAMES[1]).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _write(file: Path, shapes: Shapes, dtype: torch.dtype, make: Callable[[str], Tensor]) -> None:
    """One file in the format of safetensors: the header's length, the header as JSON, the data one after the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + dtype.itemsize * prod(shape)
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNED)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = make(name).cpu().contiguous()
            assert (values.dtype, tuple(values.shape)) == (dtype, shape), name
            stream.write(values.flatten().view(torch.uint8).numpy().data)
