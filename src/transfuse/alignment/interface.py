"""What an alignment takes, and what it gives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transfuse.base.batch import Batch
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, silent
from transfuse.config.literals import Evidence, FlowOptions, Groups
from transfuse.network.model import Network
from transfuse.network.spec import Spec
from transfuse.transport.solve import Match


@dataclass(frozen=True)
class AlignContext:
    """What an alignment lets a user choose.

    Attributes:
        evidence: what units are matched by.
        batches: prepared samples to look at, on the models' device; empty where there is no data.
        paper: options of the flow.
        groups: every symmetry, or permutations alone.
        progress: shows what is under way.
        store: where finished work is kept, and taken from.
        room: bytes that statistics of activations may take; None: whatever they do.
    """

    evidence: Evidence
    batches: Sequence[Batch] = ()
    flow: FlowOptions = field(default_factory=FlowOptions)
    groups: Groups = "all"
    store: Store = NO_STORE
    progress: Progress = silent
    room: int | None = None


@dataclass(frozen=True)
class Alignment:
    """A source in the anchor's basis.

    Attributes:
        spec: the declaration, as the method transformed it.
        anchor: the anchor in the common basis: in canonical gauge, where the method needs it.
        carried: the source in that basis.
        matches: what was found for every space.
        candidates: where several alignments were tried, how much each disagreed with the parents, in nats.
        deviation: how far the source's outputs changed, relative to the largest; None where that was not asked.
    """

    spec: Spec
    anchor: Tensors
    carried: Tensors
    matches: Mapping[str, Match] = field(default_factory=dict)
    candidates: Mapping[str, float] = field(default_factory=dict)
    deviation: float | None = None


def aligned_weights(alignments: Sequence[Alignment]) -> list[Tensors]:
    """The anchor and every source, as they can be merged."""
    return [alignments[0].anchor, *(each.carried for each in alignments)]


Method = Callable[[Network, Network, AlignContext], Alignment]
