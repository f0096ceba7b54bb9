"""Statistics of activations on disk, so that another alignment of the same models need not look at the data again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from transfuse.align.evidence import Probe
from transfuse.io.store import Store
from transfuse.transport.cost import Moments

Collect = Callable[[Sequence[Probe]], Mapping[Probe, Moments]]
SUMS = tuple(each.name for each in fields(Moments) if each.name != "count")


def collected(store: Store, probes: Sequence[Probe], collect: Collect, **how: str) -> Mapping[Probe, Moments]:
    """Moments of every probe that shows a free space: those that were kept, or else found now and kept.

    Args:
        store: of these models and this data.
        how: what else tells these statistics from others.
    """
    store = store.of(probes=list(map(str, probes)), **how)
    if (entry := store.load("statistics")) is not None:
        counts: dict[str, int] = entry.facts
        return {
            probes[int(place)]: Moments(count, *(entry.tensors[f"{place}/{each}"] for each in SUMS))
            for place, count in counts.items()
        }  # fmt: skip
    found = collect(probes)
    seen = {str(probes.index(probe)): each for probe, each in found.items()}
    tensors = {f"{place}/{each}": getattr(sums, each) for place, sums in seen.items() for each in SUMS}
    store.keep("statistics", tensors, {place: sums.count for place, sums in seen.items()})
    return found
