"""A model that was made smaller, before and after it is saved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.folders import given_path
from transfuse.checkpoint.cards.shrunk import shrunk_card
from transfuse.checkpoint.reading.companions import CARD
from transfuse.checkpoint.record.origin import Origin
from transfuse.checkpoint.record.outcome import smaller_sizes
from transfuse.checkpoint.writing.output import Overwrite
from transfuse.checkpoint.writing.save import model_writer, save_checkpoint
from transfuse.shrinking.streamed import streamed_writer


@dataclass(frozen=True)
class Shrunk:
    """Hold a model that was made smaller, and the record of how it was made.

    Attributes:
        model: the small model in evaluation mode, on the CPU.
        record: the content of `transfuse.json`: the model with hashes, sizes, options, data, versions.
        origin: path and hashes of the large model.
        processor: the processor that is saved with the model; None: the processor in the model's directory.
        data: the samples, as they were read.
    """

    model: PreTrainedModel
    record: dict[str, Any]
    origin: Origin
    processor: Any = None
    data: Any = None

    def __repr__(self) -> str:
        """Return the sizes before and after, and what to do next."""
        parameters = self.record["parameters"]
        return (
            f"Shrunk {self.origin.architecture}: {parameters['small']:,} of {parameters['large']:,} parameters\n"
            f"  sizes: {smaller_sizes(self.record)}\n"
            "  next:  .save(path) writes the checkpoint; .model is the small model"
        )

    @property
    def prepared_by(self) -> Any:
        """Return the processor that prepares samples for the model, or a path whose processor does."""
        return self.processor or self.origin.path

    def save(self, path: str | Path, overwrite: Overwrite = "refuse") -> Path:
        """Write the checkpoint, its model card and `transfuse.json`, and verify them by reloading.

        The folder appears complete or not at all.

        Args:
            overwrite: "refuse" or False refuses a folder that is not empty; "replace" or True replaces it if it holds a
                model and nothing else.

        Returns:
            The folder of the checkpoint.

        Raises:
            ConfigError: `path` is not a path, or `overwrite` has another value.
            OutputError: `path` is not empty (unless it may be replaced), is not writable or is an input, or the disk
                is full.
        """
        target = given_path(path)
        card = {CARD: shrunk_card(target.name, self.record)}
        if self.record.get("streamed") and self.origin.path is not None:
            write = streamed_writer(self.model, self.origin.path)
        else:
            write = model_writer(self.model, self.origin.path)
        protected = [self.origin.folder] if self.origin.folder else []
        inputs = [self.origin.path]
        return save_checkpoint(target, overwrite, write, inputs, self.processor, self.record, card, protected)
