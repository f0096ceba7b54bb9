"""The result of fine-tuning: a model, how it was trained, and how it is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from transfuse.base.counted import counted
from transfuse.base.folders import given_path
from transfuse.checkpoint.cards.card import finetuned_card
from transfuse.checkpoint.reading.companions import CARD
from transfuse.checkpoint.writing.output import Overwrite
from transfuse.checkpoint.writing.save import model_writer, save_checkpoint


@dataclass(frozen=True)
class Finetuned:
    """Hold a fine-tuned model and the record of how it was made.

    Attributes:
        model: the fine-tuned model in evaluation mode, on the CPU, in its original precision.
        record: the content of `transfuse.json`: model, teachers, data, schedule, losses, versions.
        processor: the processor that is saved with the model; None: the processor in the model's directory.
        loaded: folders that models in memory were loaded from. They are protected from being overwritten.
    """

    model: PreTrainedModel
    record: dict[str, Any]
    processor: Any = None
    loaded: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the class, how it was trained, and what to do next, in one line."""
        trained = f"{counted(self.record['steps'], 'step')} on {counted(self.record['samples'], 'sample', ',')}"
        taught = f", with {counted(len(self.record['teachers']), 'teacher')}" if self.record["teachers"] else ""
        return f"Finetuned {type(self.model).__name__}: {trained}{taught}; .save(path) writes it, .model is the model"

    @property
    def prepared_by(self) -> Any:
        """Return the processor that prepares samples for the model, or a path whose processor does."""
        return self.processor or self.record["finetuned"]["path"]

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
        card = {CARD: finetuned_card(target.name, self.record)}
        paths = [entry["path"] for entry in (self.record["finetuned"], *self.record["teachers"])]
        write = model_writer(self.model, paths[0])
        return save_checkpoint(target, overwrite, write, paths, self.processor, self.record, card, self.loaded)
