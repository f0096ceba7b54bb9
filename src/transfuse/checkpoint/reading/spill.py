"""Tensors that memory has no room for, written to a file without a name and mapped from it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from mmap import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from transfuse.base.atomic import is_disk_full
from transfuse.base.folders import make_folder
from transfuse.base.lazy import Tensors
from transfuse.checkpoint.reading.mapped_tensors import Extent, from_buffer, map_file
from transfuse.errors import OutputError, first_line
from transfuse.network.model import ALIGNMENT


@dataclass(frozen=True)
class TensorSpill:
    """A policy for tensors that are used more than once: write them to a file, and map it.

    The system deletes a file when no tensor of it is used any more, or when the process ends, however it ends.

    Attributes:
        folder: where the files are. It is created if it is absent.
        mappings: the mapped files that are in use, with the addresses of their first byte and of the byte behind them.
    """

    folder: Path
    mappings: WeakKeyDictionary[mmap, tuple[int, int]] = field(default_factory=WeakKeyDictionary, repr=False)

    def __call__(self, tensors: Tensors) -> Tensors:
        """Compute all tensors, write them one by one, and return them mapped. Mapped tensors are returned as they are.

        Raises:
            OutputError: the file cannot be written.
        """
        result: dict[str, Tensor] = {}
        extents: dict[str, Extent] = {}
        try:
            make_folder(self.folder)
            with TemporaryFile(dir=self.folder) as file:
                for name in tensors:
                    values = tensors[name].detach()
                    if values.numel() and not self._is_mapped(values):
                        extents[name] = _append(file, values)
                        values = values.new_empty(0)  # drops the numbers, and keeps the order of the names
                    result[name] = values
                file.flush()
                mapping = self.map(file) if extents else None
        except OSError as error:
            raise self._failure(error) from error
        if mapping is not None:
            result |= {name: extent.view(mapping) for name, extent in extents.items()}
        return result

    def zeros(self, shapes: Mapping[str, Sequence[int]], dtype: torch.dtype) -> dict[str, Tensor]:
        """Return tensors of zeros in a file, which may be changed. The system writes changes to it as memory demands.

        Raises:
            OutputError: the disk has no space for the file.
        """
        extents: dict[str, Extent] = {}
        size = 0
        for name, shape in shapes.items():
            extents[name] = Extent(size, dtype, tuple(shape))
            size += -(-prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
        try:
            make_folder(self.folder)
            with TemporaryFile(dir=self.folder) as file:
                file.truncate(max(size, 1))
                if hasattr(os, "posix_fallocate"):  # or else a full disk would end the process later
                    os.posix_fallocate(file.fileno(), 0, max(size, 1))
                mapping = self.map(file, writable=True)
        except OSError as error:
            raise self._failure(error) from error
        return {name: extent.view(mapping) for name, extent in extents.items()}

    def map(self, file: BinaryIO, writable: bool = False) -> mmap:
        """Map a whole file, whose tensors then need not be written again."""
        mapping = map_file(file, writable)
        start = from_buffer(mapping, torch.uint8).data_ptr()
        self.mappings[mapping] = (start, start + len(mapping))
        return mapping

    def _failure(self, error: OSError) -> OutputError:
        reason = "no space left for models beyond memory" if is_disk_full(error) else first_line(error)
        return OutputError(f"{self.folder}: {reason}; free some space, or choose another disk")

    def _is_mapped(self, values: Tensor) -> bool:
        """Return whether a tensor is a view of a mapped file."""
        address = values.data_ptr() if values.device.type == "cpu" else 0
        return any(start <= address < end for start, end in list(self.mappings.values()))


def _append(file: BinaryIO, values: Tensor) -> Extent:
    """Write a tensor at the end of a file, in the order that its numbers have in memory."""
    strides = values.stride()
    order = sorted(range(values.ndim), key=lambda dim: -strides[dim])  # stable: equal strides keep their order
    if not values.permute(order).is_contiguous():  # a part of a larger tensor
        order = list(range(values.ndim))
    ordered = values.permute(order).contiguous().cpu()
    start = -(-file.tell() // ALIGNMENT) * ALIGNMENT
    file.write(bytes(start - file.tell()))
    file.write(ordered.reshape(-1).view(torch.uint8).numpy().data)
    in_order = order == list(range(values.ndim))
    return Extent(start, values.dtype, tuple(ordered.shape), None if in_order else tuple(order))
