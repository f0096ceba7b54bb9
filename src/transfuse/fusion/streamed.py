"""Compute the tensors of a fused model one by one while they are written, for models that memory does not hold.

The tensors equal those of a fusion in memory exactly. Memory holds a few of them at a time, and the maps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress
from transfuse.base.torch_settings import own_torch_settings
from transfuse.checkpoint.reading.finite import check_range
from transfuse.checkpoint.reading.lazy_tensors import tensor_locations
from transfuse.checkpoint.reading.load import load_model
from transfuse.checkpoint.writing.write_like import write_like
from transfuse.network.layout import join_fused
from transfuse.network.model import declaration, with_tensors
from transfuse.network.precision import as_dtype, compute_dtype, stored_as


@dataclass(frozen=True)
class StreamedModel:
    """Hold the tensors of a fused model, each of which is computed when it is accessed.

    Attributes:
        anchor: the anchor's model without its weights.
        folder: the anchor's checkpoint. The output has the same tensor names and files.
        tensors: the fused tensors, by the tensor names of the network.
        dtype: the precision to write.
        progress: shows the progress of writing.
        workspace: the temporary folder of the maps, if any; it is removed with this object.
    """

    anchor: PreTrainedModel
    folder: Path
    tensors: Mapping[str, Tensor]
    dtype: torch.dtype
    progress: Progress
    workspace: TemporaryDirectory[str] | None = None

    @own_torch_settings()
    def load(self) -> PreTrainedModel:
        """Return the model with all tensors in memory."""
        anchor = load_model(self.folder)
        model = with_tensors(as_dtype(anchor, compute_dtype(anchor.dtype)), self.tensors)
        check_range(model.state_dict(), self.dtype)
        return stored_as(self.dtype, model)

    def stored(self) -> Tensors:
        """Return the tensors by their names in the model, computed on access, in the precision to write."""
        joined = join_fused(declaration(self.anchor), self.tensors)
        for name in joined:
            joined.change(name, partial(self._converted, name))
        return joined

    def _converted(self, name: str, values: Tensor) -> Tensor:
        """Return the values of a tensor in the precision to write."""
        check_range({name: values}, self.dtype)
        return values.to(self.dtype)

    @own_torch_settings()
    def write(self, folder: Path) -> None:
        """Write the weights, with the anchor's tensor names and files, and the configuration, and verify both.

        Raises:
            OutputError: the written tensors do not match the configuration.
        """
        locations = tensor_locations(self.folder, self.anchor) or {}
        ticks = iter(self.progress.track(range(len(locations)), "writing"))
        write_like(folder, locations, self.anchor, self.stored(), self.dtype, ticks, "the fused model")
