"""A fused model whose tensors are computed one by one while they are written, since memory does not hold it.

The tensors are those of a fusion in memory, number for number. Memory holds a few of them at a time, and the maps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import PreTrainedModel

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
from transfuse.network.precision import stored_as


@dataclass(frozen=True)
class StreamedModel:
    """The tensors of a fused model, each computed when it is needed.

    Attributes:
        anchor: the anchor's model without its weights.
        folder: the anchor's checkpoint, whose tensor names and files the output has.
        tensors: the fused tensors, by the names that networks have.
        dtype: the precision to write.
        workspace: the temporary folder that holds the maps, if any; it is removed with this object.
    """

    anchor: PreTrainedModel
    folder: Path
    tensors: Mapping[str, Tensor]
    dtype: torch.dtype
    progress: Progress
    workspace: TemporaryDirectory[str] | None = None

    def load(self) -> PreTrainedModel:
        """Return the whole model in memory."""
        return stored_as(self.dtype, with_tensors(load_model(self.folder), self.tensors))

    def write(self, folder: Path) -> None:
        """Write the weights under the names and in the files of the anchor, and the configuration, then check both.

        Raises:
            OutputError: what was written is not what the configuration asks for.
        """
        fused = join_fused(declaration(self.anchor), self.tensors)
        locations = tensor_locations(self.folder, self.anchor) or {}
        names = {location.name: name for name, location in locations.items()}
        shards: dict[str, dict[str, tuple[int, ...]]] = {}
        for location in locations.values():
            shards.setdefault(location.file.name, {})[location.name] = location.shape
        ticks = iter(self.progress.track(range(len(names)), "writing"))

        def compute(stored_name: str) -> Tensor:
            values = fused[names[stored_name]].to(self.dtype)
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
    """Raise `OutputError` unless the files hold what the configuration asks for, tensor by tensor."""
    try:
        written = tensor_locations(folder, load_empty(folder)) or {}
    except CheckpointError as error:
        raise OutputError(f"the written checkpoint does not load again: {error}") from error
    if any(written[name].shape != location.shape for name, location in locations.items()):
        raise OutputError("the written checkpoint has other shapes than the anchor")
