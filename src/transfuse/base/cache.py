"""Finished work on disk, by what it was made of: a run that was cut short goes on, another one need not begin anew."""

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

FACTS, DIGEST = "facts", "sha256"  # in the metadata of the file
REMEMBERED = 4096  # entries that were found whole and, unless they change, are not checked again


@dataclass(frozen=True)
class Entry:
    """Named tensors, and what is to be known of them as JSON."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Any = None


@dataclass(frozen=True)
class Store:
    """A folder of entries, each a safetensors file that is there whole or not at all; None: nothing is kept.

    Attributes:
        spill: whether what is kept is to be read again when it is needed, as there is no room for it in memory.
    """

    folder: Path | None = None
    spill: bool = False

    def of(self, **made_of: Any) -> "Store":
        """The part of it for work that is made of this: hashes of models and data, options; other work is elsewhere."""
        if self.folder is None:
            return self
        text = json.dumps(made_of, sort_keys=True, default=str)
        return replace(self, folder=self.folder / hashlib.sha256(text.encode()).hexdigest()[:20])

    def path(self, name: str) -> Path | None:
        """Where an entry lies or would lie."""
        return None if self.folder is None else self.folder / f"{quote(name, safe='')}.safetensors"

    def load(self, name: str) -> Entry | None:
        """What was kept; None if nothing was, or if it is damaged. To be called by all processes of a run together.

        All get the same: what one of them does not see, or sees otherwise as another run replaces it, nobody gets.
        """
        if self.folder is None:
            return None
        found = self._found(name)
        return found[0] if process_group().all_equal(found and found[1]) and found else None

    def read(self, name: str) -> Entry | None:
        """What this process alone finds kept."""
        found = self._found(name)
        return found and found[0]

    def _found(self, name: str) -> tuple[Entry, str] | None:
        """An entry and its digest, once it is known to be what was written."""
        path = self.path(name)
        try:
            if path is None or (whole := _sound(path, *_stamp(path))) is None:
                return None
            with safe_open(path, framework="pt") as opened:
                facts = json.loads(opened.metadata()[FACTS])
                return Entry({key: opened.get_tensor(key) for key in opened.keys()}, facts), whole  # noqa: SIM118
        except Exception:  # not there, or damaged by whatever: then it has to be made again
            return None

    def names(self) -> list[str]:
        """The entries there are."""
        files = [] if self.folder is None else sorted(self.folder.glob("[!.]*.safetensors"))
        return [unquote(file.name.removesuffix(".safetensors")) for file in files]

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
        """Keep an entry, all of it or nothing. Raises `OutputError`."""
        path = self.path(name)
        if path is None or not process_group().first:
            return
        whole = {key: values.detach().cpu().contiguous() for key, values in tensors.items()} or {"": torch.zeros(0)}
        text = json.dumps(facts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_atomically(path) as partial:
                save_file(whole, partial, {FACTS: text, DIGEST: digest(text, whole)})
        except (OSError, SafetensorError) as error:
            why = (
                "no space left to keep finished work"
                if is_disk_full(error)
                else f"cannot be written ({first_line(error)})"
            )
            raise OutputError(f"{path.parent}: {why}; free some, or choose another disk") from error


NO_STORE = Store()


def _stamp(path: Path) -> tuple[int, int, int]:
    """What tells a file from one that took its place or was written to."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(REMEMBERED)
def _sound(path: Path, *stamp: int) -> str | None:
    """The digest of an entry that holds what was written; None of any other file. Raises what reading it raises."""
    with safe_open(path, framework="pt") as opened:
        known = opened.metadata()
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 (no mapping)
    return known[DIGEST] if digest(known[FACTS], tensors) == known[DIGEST] else None
