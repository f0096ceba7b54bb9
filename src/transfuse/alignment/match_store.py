"""Matches by the name of their space, saved as they are found: to resume an interrupted run, or to save memory."""

import time
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor

from transfuse.base.cache import NO_STORE, Store
from transfuse.base.distributed import process_group
from transfuse.base.owners import by_owner
from transfuse.errors import OutputError
from transfuse.transport.maps import Invertible, Map, Matrix, Permutation, SignedPermutation
from transfuse.transport.solve import Match

MIN_INTERVAL = 5.0  # seconds between two saves of a solver
INTERVAL_FACTOR = 20.0  # and at least so many times the duration of a save
KINDS: dict[str, type[Map]] = {kind.__name__: kind for kind in (Permutation, SignedPermutation, Matrix, Invertible)}


class MatchStore(MutableMapping[str, Match]):
    """The matches of one alignment in a store; without a store, a dictionary.

    If the store spills, no match stays in memory: each access reads it from disk.
    """

    def __init__(self, store: Store = NO_STORE) -> None:
        self.store = store
        self._matches: dict[str, Match | None] = {}  # None for a match that is only on disk
        positions: dict[str, int] = {}
        # Another run may be adding entries, so every process takes the first one's list.
        names = process_group().all_gather(store.names())[0] if store.folder else []
        for name in names:
            entry = store.load(name)
            if entry is not None and entry.facts:
                positions[name] = entry.facts["place"]
                self._matches[name] = None if store.spill else _decoded(entry.tensors, entry.facts)
        self._matches = {name: self._matches[name] for name in sorted(positions, key=lambda name: positions[name])}

    def __getitem__(self, name: str) -> Match:
        match = self._matches[name]
        return self._read(name) if match is None else match

    def __setitem__(self, name: str, match: Match) -> None:
        self._matches[name] = match
        if self.store.folder is None:
            return
        tensors, facts = _encoded(match)
        self.store.keep(name, tensors, facts | {"place": len(self._matches)})
        if self.store.spill:
            process_group().barrier()
            self._matches[name] = None

    def __delitem__(self, name: str) -> None:
        del self._matches[name]

    def __contains__(self, name: object) -> bool:  # the inherited method would read the match
        return name in self._matches

    def __iter__(self) -> Iterator[str]:
        return iter(self._matches)

    def __len__(self) -> int:
        return len(self._matches)

    def _read(self, name: str) -> Match:
        entry = self.store.read(name)
        if entry is None:
            raise OutputError(f"{self.store.path(name)}: was removed or damaged during the run; run the command again")
        return _decoded(entry.tensors, entry.facts)


class LazyMaps(Mapping[str, Map]):
    """The maps of matches, which are read only on access if they are on disk."""

    def __init__(self, matches: Mapping[str, Match]) -> None:
        self._matches = matches

    def __getitem__(self, name: str) -> Map:
        return self._matches[name].map

    def __contains__(self, name: object) -> bool:
        return name in self._matches

    def __iter__(self) -> Iterator[str]:
        return iter(self._matches)

    def __len__(self) -> int:
        return len(self._matches)


class SolverState:
    """All matches of an iterative solver with its state, saved so rarely that it costs little time."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name
        self._next_save = time.monotonic() + MIN_INTERVAL

    def load(self) -> tuple[dict[str, Match], Any] | None:
        """Return the matches and the state that were saved last; None if there are none."""
        entry = self.store.load(self.name)
        if entry is None or not entry.facts:
            return None
        tensors = by_owner(entry.tensors)
        matches = {name: _decoded(tensors[name], facts) for name, facts in entry.facts["matches"].items()}
        return matches, entry.facts["facts"]

    def save(self, matches: Mapping[str, Match], state: Any, finished: bool) -> None:
        """Save matches and state if the solver has finished, or if the last save was long enough ago."""
        start = time.monotonic()
        if self.store.folder is None or not (finished or start > self._next_save):
            return
        encoded = {name: _encoded(match) for name, match in matches.items()}
        tensors = {
            f"{name}/{field}": values for name, (fields, _) in encoded.items() for field, values in fields.items()
        }
        facts = {"matches": {name: facts for name, (_, facts) in encoded.items()}, "facts": state}
        self.store.keep(self.name, tensors, facts)
        end = time.monotonic()
        self._next_save = end + max(MIN_INTERVAL, INTERVAL_FACTOR * (end - start))


def _encoded(match: Match) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a match as tensors and as facts that JSON can represent."""
    return map_tensors(match.map), {"kind": type(match.map).__name__, "cost": match.cost}


def _decoded(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Match:
    return Match(stored_map(KINDS[facts["kind"]], tensors), facts["cost"])


def map_tensors(map_: Map) -> dict[str, Tensor]:
    """Return the tensors of a map, without the second of two that are the same."""
    fields = map_.tensors()
    if fields.get("backward") is fields.get("forward"):
        fields.pop("backward", None)
    return fields


def stored_map(kind: type[Map], tensors: Mapping[str, Tensor]) -> Map:
    """Return the map of a kind that `map_tensors` returned the tensors of."""
    fields = dict(tensors)
    if "forward" in fields:
        fields.setdefault("backward", fields["forward"])
    return kind(**fields)
