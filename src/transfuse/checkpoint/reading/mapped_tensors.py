"""Tensors mapped from files, read-only and shared, so that the system may drop their pages when memory is short.

safe_open of safetensors maps files, too, but privately and for writing. That counts as memory that this process may
write, which --max-memory limits, and a file larger than the limit could not be opened.
"""

import json
import warnings
from dataclasses import dataclass
from math import prod
from mmap import ACCESS_READ, ACCESS_WRITE, mmap
from typing import BinaryIO

import torch
from torch import Tensor

from transfuse.checkpoint.reading.files import STORED_DTYPES

INTEGER_DTYPES = {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPES = STORED_DTYPES | INTEGER_DTYPES
ADDRESS_BYTES = 8  # bytes at the start of a safetensors file that hold the length of its header


@dataclass(frozen=True)
class Extent:
    """The place of a tensor in a file.

    Attributes:
        start: the first byte.
        shape: the shape in the order of the file, slowest dimension first.
        order: the dimension of the tensor that each dimension of the file is; None: the same.
    """

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    order: tuple[int, ...] | None = None

    @property
    def is_aligned(self) -> bool:
        """Return whether the tensor begins at a multiple of the size of its numbers."""
        return self.start % self.dtype.itemsize == 0

    def view(self, mapping: mmap) -> Tensor:
        """Return the tensor. Unless the mapping is writable, the system ends a process that changes it."""
        if not prod(self.shape):
            return torch.empty(self.shape, dtype=self.dtype)
        values = from_buffer(mapping, self.dtype, prod(self.shape), self.start).view(self.shape)
        return values if self.order is None else values.permute([self.order.index(dim) for dim in range(values.ndim)])


def from_buffer(mapping: mmap, dtype: torch.dtype, count: int = -1, start: int = 0) -> Tensor:
    """Return a part of a mapped file as a tensor of one dimension."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(mapping, dtype=dtype, count=count, offset=start)


def map_file(file: BinaryIO, writable: bool = False) -> mmap:
    """Map a whole file, which remains mapped until the last tensor in it is gone."""
    return mmap(file.fileno(), 0, access=ACCESS_WRITE if writable else ACCESS_READ)


def stored_extents(file: BinaryIO) -> dict[str, Extent]:
    """Return the places of the tensors in a safetensors file, by name, except those of unknown dtypes."""
    file.seek(0)
    length = int.from_bytes(file.read(ADDRESS_BYTES), "little")
    header = json.loads(file.read(length))
    data = ADDRESS_BYTES + length
    return {
        name: Extent(data + entry["data_offsets"][0], DTYPES[entry["dtype"]], tuple(entry["shape"]))
        for name, entry in header.items()
        if entry.get("dtype") in DTYPES
    }
