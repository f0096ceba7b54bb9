"""The index of a checkpoint in several files, which says which file holds each tensor.

transformers reads all tensors of all files, so that the last of two copies wins, whatever the index says.
"""

import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transfuse.base.unique_json import read_json
from transfuse.checkpoint.reading.companions import INDEX_NAMES, PICKLE_NAMES, SAFETENSORS_NAMES
from transfuse.errors import CheckpointError


def check_index(folder: Path, stored: Mapping[Path, Collection[str]]) -> None:
    """Check that every tensor is in the one file that the index names, if there is an index.

    Args:
        stored: names of the tensors in each weight file.

    Raises:
        CheckpointError: a tensor is in another file, or not in the index.
    """
    index = _index_of(folder, next(iter(stored)))
    if index is None:
        return
    weight_map: dict[str, str] = read_json(index)["weight_map"]
    for file, names in stored.items():
        for name in names:
            if weight_map.get(name) != file.name:
                expected = f"in {weight_map[name]}" if name in weight_map else "nowhere"
                raise CheckpointError(
                    f"{index}: tensor {name} is in {file.name}, but the index has it {expected}; remove the copy that"
                    " is out of date, or correct the index"
                )


@contextmanager
def loadable_folder(folder: Path, weight_file: Path) -> Iterator[Path]:
    """Yield a folder that transformers can load.

    If the index lacks `metadata`, this is a temporary folder of links with a completed index.

    Args:
        weight_file: one of the weight files.
    """
    index = _index_of(folder, weight_file)
    document: dict[str, Any] = {"metadata": {}} if index is None else read_json(index)
    if index is None or isinstance(document.get("metadata"), dict):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="transfuse-") as name:
        temporary = Path(name)
        for path in folder.iterdir():
            if path.name != index.name:
                os.symlink(path.absolute(), temporary / path.name)
        (temporary / index.name).write_text(json.dumps(document | {"metadata": {}}), encoding="utf-8")
        yield temporary


def _index_of(folder: Path, weight_file: Path) -> Path | None:
    """Return the index that lists a weight file, if there is one."""
    if weight_file.name in (SAFETENSORS_NAMES[0], PICKLE_NAMES[0]):
        return None
    candidates = (folder / name for name in INDEX_NAMES if f"{weight_file.suffix}.index" in name)
    return next((index for index in candidates if index.is_file()), None)
