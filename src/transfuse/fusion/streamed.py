"""Compute the tensors of a fused model one by one while they are written, for models that memory does not hold.

The tensors equal those of a fusion in memory exactly. Memory holds a few of them at a time, and the maps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress
from transfuse.checkpoint.finite import check_finite
from transfuse.checkpoint.lazy_tensors import TensorLocation, tensor_locations
from transfuse.checkpoint.legacy_config import add_legacy_keys
from transfuse.checkpoint.load import load_empty, load_model
from transfuse.checkpoint.safetensors_writer import write_shards
from transfuse.checkpoint.save import save_generation
from transfuse.errors import CheckpointError, OutputError
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

    def load(self) -> PreTrainedModel:
        """Return the model with all tensors in memory."""
        anchor = load_model(self.folder)
        return stored_as(self.dtype, with_tensors(as_dtype(anchor, compute_dtype(anchor.dtype)), self.tensors))

    def stored(self) -> Tensors:
        """Return the tensors by their names in the model, computed on access, in the precision to write."""
        joined = join_fused(declaration(self.anchor), self.tensors)
        for name in joined:
            joined.change(name, lambda values: values.to(self.dtype))
        return joined

    def write(self, folder: Path) -> None:
        """Write the weights, with the anchor's tensor names and files, and the configuration, and verify both.

        Raises:
            OutputError: the written tensors do not match the configuration.
        """
        fused = self.stored()
        locations = tensor_locations(self.folder, self.anchor) or {}
        names = {location.name: name for name, location in locations.items()}
        shards: dict[str, dict[str, tuple[int, ...]]] = {}
        for location in locations.values():
            shards.setdefault(location.file.name, {})[location.name] = location.shape
        ticks = iter(self.progress.track(range(len(names)), "writing"))

        def compute(stored_name: str) -> Tensor:
            values = fused[names[stored_name]]
            check_finite({names[stored_name]: values}, "the fused model")
            next(ticks, None)
            return values

        write_shards(folder, shards, self.dtype, compute)
        next(ticks, None)
        self.anchor.config.dtype = self.dtype
        self.anchor.config.save_pretrained(folder)
        add_legacy_keys(folder)
        save_generation(self.anchor, folder)
        _verify(locations, folder)


def _verify(locations: Mapping[str, TensorLocation], folder: Path) -> None:
    """Raise `OutputError` unless the tensors in the files have the shapes of the anchor's tensors."""
    try:
        written = tensor_locations(folder, load_empty(folder)) or {}
    except CheckpointError as error:
        raise OutputError(f"{folder}: the written checkpoint does not load again: {error}") from error
    if any(written[name].shape != location.shape for name, location in locations.items()):
        raise OutputError(
            f"{folder}: the shapes of the written tensors differ from the anchor's; choose another output directory"
        )
