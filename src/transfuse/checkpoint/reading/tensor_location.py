"""The place of one tensor in a safetensors file."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from transfuse.checkpoint.reading.files import FLOAT8_DTYPES
from transfuse.checkpoint.reading.mapped_tensors import map_file, stored_extents


@dataclass(frozen=True)
class TensorLocation:
    """The file that holds a tensor, and the tensor's name and shape in that file."""

    file: Path
    name: str
    shape: tuple[int, ...]

    @property
    def parts(self) -> tuple["TensorLocation", ...]:
        """The places of the tensor's parts, which is this one."""
        return (self,)

    def read(self) -> Tensor:
        """Return the tensor, mapped from the file. It must not be written to.

        A tensor in float8, which few operations support, is converted to bfloat16.
        """
        with self.file.open("rb") as stream:
            extent = stored_extents(stream).get(self.name)
            values = extent.view(map_file(stream)) if extent and extent.is_aligned else None
        if values is None:
            with safe_open(self.file, framework="pt") as opened:
                values = opened.get_tensor(self.name)
        return values.to(torch.bfloat16) if values.dtype in FLOAT8_DTYPES else values

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Return a tensor that takes the place of this one, by its name in the file."""
        return {self.name: values}
