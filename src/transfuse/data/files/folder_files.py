"""The files in a folder, also in folders that links lead to."""

import os
from pathlib import Path

HIDDEN = (".", "__", "~$")  # beginnings of names; "~$" is that of the lock files of Excel
METADATA_FILES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")  # hold no data


def files_in(folder: Path) -> list[Path]:
    """Return all files in a folder and its subfolders, sorted, without hidden ones and those that describe the data.

    A link to a folder is followed unless it leads to one that the link itself lies in, which would have no end.
    """
    files = []
    above: dict[str, tuple[Path, ...]] = {str(folder): (folder.resolve(),)}  # each folder, after those on the way to it
    for parent, folders, names in os.walk(folder, followlinks=True):
        passed = above.pop(parent)
        real = {name: Path(parent, name).resolve() for name in folders if not _is_hidden(name)}
        folders[:] = [name for name, path in real.items() if not any(other.is_relative_to(path) for other in passed)]
        above |= {os.path.join(parent, name): (*passed, real[name]) for name in folders}
        files += [Path(parent, name) for name in names if not _is_hidden(name)]
    return sorted(path for path in files if path.is_file())


def _is_hidden(name: str) -> bool:
    return name.startswith(HIDDEN) or name in METADATA_FILES
