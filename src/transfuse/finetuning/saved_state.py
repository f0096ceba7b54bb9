"""The training state that transformers' Trainer saves: which checkpoints are complete, and whether they can be read."""

import shutil
from pathlib import Path
from zipfile import is_zipfile

from transfuse.base.folders import given_path
from transfuse.checkpoint.reading.other_kinds import CHECKPOINT_FOLDER
from transfuse.checkpoint.writing.owned import json_or_none, missing_model_part
from transfuse.errors import CheckpointError

STATE_FILE = "trainer_state.json"  # the Trainer writes it last
NEEDED_FILES = ("optimizer.pt", "scheduler.pt")  # without them, the Trainer starts with new ones and says nothing


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the folders `checkpoint-N` that training can resume from, in the order of their steps.

    The others lack a file, because the run ended while it saved them.
    """
    return sorted(filter(_is_complete, _checkpoints(folder)), key=_step)


def remove_incomplete(folder: Path) -> None:
    """Remove the folders `checkpoint-N` that training cannot resume from."""
    for path in _checkpoints(folder):
        if not _is_complete(path):
            shutil.rmtree(path, ignore_errors=True)


def training_state(resume: str | Path) -> Path:
    """Return the folder that the user gave to resume from.

    Raises:
        ConfigError: it is not a path.
        CheckpointError: it is no complete training state, or a file of torch in it is cut off.
    """
    checkpoint = given_path(resume, "resume", "a folder checkpoint-N")
    if not _is_complete(checkpoint):
        files = ", ".join((*NEEDED_FILES, STATE_FILE))
        raise CheckpointError(
            f"{checkpoint}: is no complete training state, which has a model, {files}; give a folder checkpoint-N that"
            " fine-tuning saved"
        )
    for file in sorted(checkpoint.glob("*.pt*")):
        if not is_zipfile(file):
            raise CheckpointError(
                f"{file}: is damaged, so the run cannot be resumed; remove {checkpoint.parent} and leave --resume out"
            )
    return checkpoint


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if CHECKPOINT_FOLDER.fullmatch(path.name) and path.is_dir()]


def _is_complete(checkpoint: Path) -> bool:
    return (
        isinstance(json_or_none(checkpoint / STATE_FILE), dict)
        and all((checkpoint / name).is_file() for name in NEEDED_FILES)
        and missing_model_part(checkpoint) is None
    )


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
