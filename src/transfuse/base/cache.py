"""Finished work on disk, under a hash of what it depends on, so that an interrupted run or a later one can reuse it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from transfuse.base.atomic import is_disk_full, replace_atomically
from transfuse.base.distributed import process_group
from transfuse.base.hashing import digest
from transfuse.errors import OutputError, first_line

FACTS_KEY = "facts"  # keys in the metadata of an entry's file
DIGEST_KEY = "sha256"
VERIFIED_FILES = 4096  # number of verified files that are remembered and not verified again until they change


@dataclass(frozen=True)
class Entry:
    """Named tensors, and facts about them that JSON can hold."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Any = None


@dataclass(frozen=True)
class Store:
    """A folder of entries, each a safetensors file that is complete or absent.

    Attributes:
        folder: None if nothing is stored.
        spill: whether entries are read from disk each time, because memory has no room for them.
    """

    folder: Path | None = None
    spill: bool = False

    def of(self, **inputs: Any) -> "Store":
        """Return the subfolder for work with these inputs, such as options and hashes of models and data."""
        if self.folder is None:
            return self
        text = json.dumps(inputs, sort_keys=True, default=str)
        return replace(self, folder=self.folder / hashlib.sha256(text.encode()).hexdigest()[:20])

    def path(self, name: str) -> Path | None:
        """Return the file of an entry, whether or not it exists."""
        return self.file(f"{quote(name, safe='')}.safetensors")

    def file(self, name: str) -> Path | None:
        """Return a file of this name in the folder, whether or not it exists."""
        return None if self.folder is None else self.folder / name

    def load(self, name: str) -> Entry | None:
        """Return an entry, or None if it is absent or damaged. All processes of a run must call this together.

        All processes get the same result: None unless each of them reads the same file, which another run may be
        replacing.
        """
        if self.folder is None:
            return None
        verified = self._verified_entry(name)
        return verified[0] if process_group().all_equal(verified and verified[1]) and verified else None

    def read(self, name: str) -> Entry | None:
        """Return an entry as `load` does, but in this process alone."""
        verified = self._verified_entry(name)
        return verified and verified[0]

    def _verified_entry(self, name: str) -> tuple[Entry, str] | None:
        """Return an entry and its digest if the file is complete and unchanged since it was written."""
        path = self.path(name)
        try:
            if path is None or (checksum := _verified_digest(path, *_file_stamp(path))) is None:
                return None
            with safe_open(path, framework="pt") as file:
                facts = json.loads(file.metadata()[FACTS_KEY])
                tensors = {key: file.get_tensor(key) for key in file.keys() if key}  # noqa: SIM118
                return Entry(tensors, facts), checksum
        except Exception:  # absent, or damaged in any way: the work is done again
            return None

    def names(self) -> list[str]:
        """Return the names of all entries."""
        files = [] if self.folder is None else sorted(self.folder.glob("[!.]*.safetensors"))
        return [unquote(file.name.removesuffix(".safetensors")) for file in files]

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
        """Write an entry, from the first process of a run only.

        Raises:
            OutputError: the entry cannot be written; nothing of it is left.
        """
        path = self.path(name)
        if path is None or not process_group().first:
            return
        stored = {key: values.detach().cpu().contiguous() for key, values in tensors.items()}
        stored = stored or {"": torch.zeros(0)}  # a file has at least one
        text = json.dumps(facts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path) as partial:
                save_file(stored, partial, {FACTS_KEY: text, DIGEST_KEY: digest(text, stored)})
        except (OSError, SafetensorError) as error:
            full = is_disk_full(error)
            reason = "no space left to keep finished work" if full else f"cannot be written ({first_line(error)})"
            raise OutputError(f"{path.parent}: {reason}; free some space, or choose another disk") from error


NO_STORE = Store()


def _file_stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is written to or replaced: inode, modification time and size."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


@lru_cache(VERIFIED_FILES)
def _verified_digest(path: Path, *stamp: int) -> str | None:
    """Return the digest of an entry's file if its content matches it, else None; pass on errors of reading it."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    return metadata[DIGEST_KEY] if digest(metadata[FACTS_KEY], tensors) == metadata[DIGEST_KEY] else None
