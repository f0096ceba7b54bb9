"""Statistics of activations on disk: another alignment need not look at the data again, nor memory hold them all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial

from transfuse.activations.hooks import HookPoint
from transfuse.activations.project import ProjectedMoments
from transfuse.base.cache import Entry, Store
from transfuse.base.distributed import process_group
from transfuse.errors import OutputError
from transfuse.transport.cost import Moments

CollectFn = Callable[[Sequence[HookPoint]], Mapping[HookPoint, Moments]]
MOMENT_FIELDS = tuple(each.name for each in fields(Moments) if each.name != "count")
FLOAT64_BYTES = 8  # bytes of a number


def cached_moments(
    store: Store, probes: Sequence[HookPoint], collect: CollectFn, room: int | None = None, **how: str
) -> Mapping[HookPoint, Moments]:
    """Moments of every probe that shows a free space: those that were kept, or else found now and kept.

    Args:
        store: of these models and this data.
        room: bytes that moments may take. What does not fit is found in several passes over the data, each for the
            probes that do, and lies on disk, if there is a store: it is read whenever it is asked for. None: whatever
            it takes.
        how: what else tells these statistics from others.
    """
    shown = [probe for probe in probes if any(space.free for space in probe.axis.spaces())]
    places = {probe: store.of(probe=str(probe), **how) for probe in shown}
    found = {probe: seen for probe in shown if (seen := _load(places[probe])) is not None}
    spills = room is not None and store.folder is not None
    for window in chunks([probe for probe in shown if probe not in found], room):
        new = dict(collect(window))
        for probe, seen in new.items():
            _keep(places[probe], seen)
        if spills:
            process_group().barrier()
            new = {probe: _load(places[probe]) or seen for probe, seen in new.items()}
        found |= new
    there = [probe for probe in shown if probe in found]
    if spills:
        return ProjectedMoments({probe: partial(_again, places[probe]) for probe in there})
    return {probe: found[probe] for probe in there}


def chunks(probes: Sequence[HookPoint], room: int | None) -> Iterator[list[HookPoint]]:
    """Groups of probes, in order, whose moments fit; one alone that does not is a group all the same."""
    window: list[HookPoint] = []
    size = 0
    for probe in probes:
        needs = FLOAT64_BYTES * probe.axis.size**2 if probe.crossed else 0
        if window and room is not None and size + needs > room:
            yield window
            window, size = [], 0
        window.append(probe)
        size += needs
    if window:
        yield window


def _keep(store: Store, seen: Moments) -> None:
    store.keep("statistics", {name: getattr(seen, name) for name in MOMENT_FIELDS}, seen.count)


def _load(store: Store) -> Moments | None:
    return _moments(store.load("statistics"))


def _again(store: Store) -> Moments:
    """To be called by any process, whenever it needs them."""
    found = _moments(store.read("statistics"))
    if found is None:
        raise OutputError(f"{store.path('statistics')}: was removed or damaged meanwhile; run this again")
    return found


def _moments(entry: Entry | None) -> Moments | None:
    return None if entry is None else Moments(entry.facts, **entry.tensors)
