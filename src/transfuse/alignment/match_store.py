"""Matches by the name of their space, kept on disk as they are found: to go on from, or for want of memory."""

import time
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from transfuse.base.cache import NO_STORE, Entry, Store
from transfuse.base.distributed import process_group
from transfuse.errors import OutputError
from transfuse.transport.maps import Invertible, Map, Matrix, Permutation, SignedPermutation, rotation
from transfuse.transport.solve import Match

OFTEN, SELDOM = 5.0, 20.0  # seconds between two times of keeping, at least; and so many times what one took
KINDS: dict[str, type[Map]] = {each.__name__: each for each in (Permutation, SignedPermutation, Matrix, Invertible)}


class MatchStore(MutableMapping[str, Match]):
    """What a store holds of one alignment. Without a store, a dictionary."""

    def __init__(self, store: Store = NO_STORE) -> None:
        self.store = store
        names = (
            process_group().all_gather(store.names())[0] if store.folder else []
        )  # another run may be adding to them
        entries = {name: store.load(name) for name in names}
        there = {name: entry for name, entry in entries.items() if entry is not None and entry.facts}
        self._matches = {
            name: Match(self._lying(name, entry), entry.facts["cost"])
            for name, entry in sorted(there.items(), key=lambda item: item[1].facts["place"])
        }

    def __getitem__(self, name: str) -> Match:
        return self._matches[name]

    def __setitem__(self, name: str, match: Match) -> None:
        self._matches[name] = match
        if self.store.folder is None:
            return
        tensors, facts = _written(match)
        self.store.keep(name, tensors, facts | {"place": len(self._matches)})
        if self.store.spill:
            process_group().barrier()
            self._matches[name] = Match(Shelved(self.store, name), match.cost)

    def __delitem__(self, name: str) -> None:
        del self._matches[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._matches)

    def __len__(self) -> int:
        return len(self._matches)

    def _lying(self, name: str, entry: Entry) -> Map:
        return Shelved(self.store, name) if self.store.spill else _read(entry.tensors, entry.facts)


class SolverState:
    """All matches of a descent together, kept now and then: rarely enough to cost little."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name
        self._due = time.monotonic() + OFTEN

    def load(self) -> tuple[dict[str, Match], Any] | None:
        """The matches and the facts that were kept last, if any were."""
        entry = self.store.load(self.name)
        if entry is None or not entry.facts:
            return None
        found: dict[str, dict[str, Tensor]] = {name: {} for name in entry.facts["matches"]}
        for key, values in entry.tensors.items():
            name, _, part = key.rpartition("/")
            found[name][part] = values
        matches = {
            name: Match(_read(found[name], facts), facts["cost"]) for name, facts in entry.facts["matches"].items()
        }
        return matches, entry.facts["facts"]

    def save(self, matches: Mapping[str, Match], facts: Any, ended: bool) -> None:
        """Keep them, if it is time to, or the end."""
        start = time.monotonic()
        if self.store.folder is None or not (ended or start > self._due):
            return
        written = {name: _written(match) for name, match in matches.items()}
        tensors = {f"{name}/{part}": values for name, (parts, _) in written.items() for part, values in parts.items()}
        self.store.keep(
            self.name, tensors, {"matches": {name: each for name, (_, each) in written.items()}, "facts": facts}
        )
        now = time.monotonic()
        self._due = now + max(OFTEN, SELDOM * (now - start))


def _written(match: Match) -> tuple[dict[str, Tensor], dict[str, Any]]:
    chosen = match.map.materialized()
    fields = {name: values for name, values in vars(chosen).items() if isinstance(values, Tensor)}
    if fields.get("backward") is fields.get("forward"):
        fields.pop("backward", None)
    return fields, {"kind": type(chosen).__name__, "cost": match.cost}


def _read(tensors: Any, facts: Any) -> Map:
    if facts["kind"] == Invertible.__name__ and "backward" not in tensors:
        return rotation(tensors["forward"])
    fields = dict(tensors)
    if "forward" in fields:
        fields.setdefault("backward", fields["forward"])
    return KINDS[facts["kind"]](**fields)


@dataclass(frozen=True, eq=False)
class Shelved(Map):
    """A map that is read whenever it is used."""

    store: Store
    name: str

    def materialized(self) -> Map:
        entry = self.store.read(self.name)
        if entry is None:
            raise OutputError(f"{self.store.path(self.name)}: was removed or damaged meanwhile; run this again")
        return _read(entry.tensors, entry.facts)

    def push(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.materialized().push(values)

    def pull(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.materialized().pull(values)

    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.materialized().scale(values)

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.materialized().scale_back(values)

    def exactness(self) -> float:
        return self.materialized().exactness()

    def plan(self) -> Float[Tensor, "*within source target"]:
        return self.materialized().plan()

    @property
    def units(self) -> tuple[int, int]:
        return self.materialized().units

    @property
    def parent_axes(self) -> int:
        return self.materialized().parent_axes

    def entropy(self) -> float:
        return self.materialized().entropy()

    def support(self) -> float:
        return self.materialized().support()
