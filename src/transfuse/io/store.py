"""Finished work on disk, by what it was made of: a run that was cut short goes on, another one need not begin anew."""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from transfuse.errors import OutputError
from transfuse.io.files import first_line
from transfuse.io.output import is_full
from transfuse.ranks import here

FACTS = "facts"


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
        """What was kept; None if nothing was, or if it cannot be read."""
        path = self.path(name)
        if path is None or not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as opened:
                facts = json.loads((opened.metadata() or {}).get(FACTS, "null"))
                return Entry({key: opened.get_tensor(key) for key in opened.keys()}, facts)  # noqa: SIM118 (no mapping)
        except Exception:  # damaged by whatever: then it has to be made again
            return None

    def names(self) -> list[str]:
        """The entries there are."""
        files = [] if self.folder is None else sorted(self.folder.glob("[!.]*.safetensors"))
        return [unquote(file.name.removesuffix(".safetensors")) for file in files]

    def keep(self, name: str, tensors: Mapping[str, Tensor], facts: Any = None) -> None:
        """Keep an entry, all of it or nothing. Raises `OutputError`."""
        path = self.path(name)
        if path is None or not here().first:
            return
        partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = {key: values.detach().cpu().contiguous() for key, values in tensors.items()}
            save_file(whole or {"": torch.zeros(0)}, partial, {FACTS: json.dumps(facts)})
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            why = (
                "no space left to keep finished work" if is_full(error) else f"cannot be written ({first_line(error)})"
            )
            raise OutputError(f"{path.parent}: {why}; free some, or choose another disk") from error
        finally:
            partial.unlink(missing_ok=True)


NOWHERE = Store()
