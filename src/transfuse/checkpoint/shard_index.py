"""The index of a checkpoint in several files: which tensor lies in which of them.

transformers reads every tensor of every file, so that of two copies the last one wins, whatever the index says.
"""

import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transfuse.base.unique_json import read_json
from transfuse.checkpoint.files import PICKLE_NAMES, SAFETENSORS_NAMES
from transfuse.errors import CheckpointError

INDICES = (SAFETENSORS_NAMES[1], PICKLE_NAMES[1])


def check_index(directory: Path, stored: Mapping[Path, Collection[str]]) -> None:
    """Raise `CheckpointError` unless every tensor lies in the one file that the index names.

    Args:
        stored: the names of the tensors in each weight file.
    """
    index = _index(directory, next(iter(stored)))
    if index is None:
        return
    places: dict[str, str] = read_json(index)["weight_map"]
    for file, names in stored.items():
        for name in names:
            if places.get(name) != file.name:
                due = f"in {places[name]}" if name in places else "nowhere"
                raise CheckpointError(
                    f"{index}: tensor {name} is in {file.name}, but the index has it {due}; remove the copy that is out"
                    " of date, or correct the index"
                )


@contextmanager
def loadable_folder(directory: Path, weights: Path) -> Iterator[Path]:
    """Yield a folder that transformers can load: where an index lacks `metadata`, links beside a completed one.

    Args:
        weights: one of the files that hold the weights.
    """
    index = _index(directory, weights)
    document: dict[str, Any] = {"metadata": {}} if index is None else read_json(index)
    if index is None or isinstance(document.get("metadata"), dict):
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="transfuse-") as name:
        folder = Path(name)
        for path in directory.iterdir():
            if path.name != index.name:
                os.symlink(path.absolute(), folder / path.name)
        (folder / index.name).write_text(json.dumps(document | {"metadata": {}}), encoding="utf-8")
        yield folder


def _index(directory: Path, weights: Path) -> Path | None:
    """The index that names a weight file, where there is one."""
    if weights.name in (SAFETENSORS_NAMES[0], PICKLE_NAMES[0]):
        return None
    found = (directory / name for name in INDICES if f"{weights.suffix}.index" in name)
    return next((index for index in found if index.is_file()), None)
