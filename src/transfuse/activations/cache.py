"""A disk cache of moments, so that later alignments need no pass over the data and memory need not hold all moments."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from math import inf

import torch

from transfuse.activations.hook_points import HookPoint
from transfuse.activations.project import ProjectedMoments
from transfuse.base.budget import FLOAT64_BYTES
from transfuse.base.cache import Entry, Store
from transfuse.base.distributed import process_group
from transfuse.base.grouping import groups_within
from transfuse.errors import OutputError
from transfuse.transport.cost import Moments

CollectFn = Callable[[Sequence[HookPoint]], Mapping[HookPoint, Moments]]
MOMENT_FIELDS = tuple(field.name for field in fields(Moments) if field.name != "count")


def cached_moments(
    store: Store,
    points: Sequence[HookPoint],
    collect: CollectFn,
    room: int | None = None,
    device: torch.device | str = "cpu",
    **key: str,
) -> Mapping[HookPoint, Moments]:
    """Return the moments of all points with a free space, from the cache or by collecting and caching them.

    Args:
        store: the cache for these models and this data.
        collect: collects the moments of some points in one pass over the data.
        room: bytes that moments may take in memory. If they take more, they are collected in several passes, and those
            in the cache are read again whenever they are needed. None, or no folder for the cache: unlimited.
        device: where cached moments are loaded to; that of the models.
        key: whatever else the moments depend on.

    Raises:
        OutputError: the cache cannot be written, or an entry disappears while it is in use.
    """
    points = [point for point in points if point.is_free]
    stores = {point: store.of(probe=str(point), **key) for point in points}
    limit = inf if room is None or store.folder is None else room
    spills = limit < inf
    known = {point: moments for point in points if (moments := _load(stores[point], device)) is not None}
    stored = set(known)
    for chunk in groups_within([point for point in points if point not in stored], _nbytes, limit):
        collected = dict(collect(chunk))
        for point, moments in collected.items():
            _save(stores[point], moments)
        stored.update(collected)
        if spills:  # what is on disk is read again when it is needed
            process_group().barrier()
        else:
            known |= collected
    if spills:
        return ProjectedMoments({point: partial(_reload, stores[point], device) for point in points if point in stored})
    return {point: known[point] for point in points if point in known}


def _nbytes(point: HookPoint) -> int:
    """Return the bytes of the products of a point, which take nearly all memory of its moments."""
    return FLOAT64_BYTES * point.axis.size**2 if point.with_cross else 0


def _save(store: Store, moments: Moments) -> None:
    store.keep("moments", {name: getattr(moments, name) for name in MOMENT_FIELDS}, moments.count)


def _load(store: Store, device: torch.device | str) -> Moments | None:
    """Return the cached moments, or None. All processes must call this together."""
    return _to_moments(store.load("moments"), device)


def _reload(store: Store, device: torch.device | str) -> Moments:
    """Return moments that are known to be cached. Any process may call this alone."""
    moments = _to_moments(store.read("moments"), device)
    if moments is None:
        raise OutputError(f"{store.path('moments')}: this file was removed or damaged during the run; run it again")
    return moments


def _to_moments(entry: Entry | None, device: torch.device | str) -> Moments | None:
    if entry is None:
        return None
    return Moments(entry.facts, **{name: values.to(device) for name, values in entry.tensors.items()})
