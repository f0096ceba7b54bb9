"""A disk cache of moments, so that later alignments need no pass over the data and memory need not hold all moments."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.project import ProjectedMoments
from transfuse.base.cache import Entry, Store
from transfuse.base.distributed import process_group
from transfuse.errors import OutputError
from transfuse.transport.cost import Moments

CollectFn = Callable[[Sequence[HookPoint]], Mapping[HookPoint, Moments]]
MOMENT_FIELDS = tuple(field.name for field in fields(Moments) if field.name != "count")
FLOAT64_BYTES = 8


def cached_moments(
    store: Store, points: Sequence[HookPoint], collect: CollectFn, room: int | None = None, **key: str
) -> Mapping[HookPoint, Moments]:
    """Return the moments of all points with a free space, from the cache or by collecting and caching them.

    Args:
        store: the cache for these models and this data.
        collect: collects the moments of some points in one pass over the data.
        room: bytes that moments may take in memory. If they take more, they are collected in several passes, and those
            in the cache are read again whenever they are needed. None: unlimited.
        key: whatever else the moments depend on.

    Raises:
        OutputError: the cache cannot be written, or an entry disappears while it is in use.
    """
    points = [point for point in points if point.is_free]
    stores = {point: store.of(probe=str(point), **key) for point in points}
    spills = room is not None and store.folder is not None
    known = {point: moments for point in points if (moments := _load(stores[point])) is not None}
    stored = set(known)
    for chunk in chunks([point for point in points if point not in stored], room):
        collected = dict(collect(chunk))
        for point, moments in collected.items():
            _save(stores[point], moments)
        stored.update(collected)
        if spills:  # what is on disk is read again when it is needed
            process_group().barrier()
        else:
            known |= collected
    if spills:
        return ProjectedMoments({point: partial(_reload, stores[point]) for point in points if point in stored})
    return {point: known[point] for point in points if point in known}


def chunks(points: Sequence[HookPoint], room: int | None) -> Iterator[list[HookPoint]]:
    """Yield groups of points, in order, whose moments fit in `room` bytes. A point that does not fit is a group."""
    chunk: list[HookPoint] = []
    chunk_bytes = 0
    for point in points:
        point_bytes = FLOAT64_BYTES * point.axis.size**2 if point.with_cross else 0
        if chunk and room is not None and chunk_bytes + point_bytes > room:
            yield chunk
            chunk = []
            chunk_bytes = 0
        chunk.append(point)
        chunk_bytes += point_bytes
    if chunk:
        yield chunk


def _save(store: Store, moments: Moments) -> None:
    store.keep("statistics", {name: getattr(moments, name) for name in MOMENT_FIELDS}, moments.count)


def _load(store: Store) -> Moments | None:
    """Return the cached moments, or None. All processes must call this together."""
    return _to_moments(store.load("statistics"))


def _reload(store: Store) -> Moments:
    """Return moments that are known to be cached. Any process may call this alone."""
    moments = _to_moments(store.read("statistics"))
    if moments is None:
        raise OutputError(f"{store.path('statistics')}: this file was removed or damaged during the run; run it again")
    return moments


def _to_moments(entry: Entry | None) -> Moments | None:
    return None if entry is None else Moments(entry.facts, **entry.tensors)
