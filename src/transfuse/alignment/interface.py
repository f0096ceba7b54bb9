"""The input and the result of an alignment method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transfuse.base.batch import Batch
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.counted import counted, counted_names
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, silent
from transfuse.config.flow_options import FlowOptions
from transfuse.config.literals import Groups, MatchOn
from transfuse.network.model import Network
from transfuse.network.spec import Spec
from transfuse.transport.solve import Match


@dataclass(frozen=True)
class AlignContext:
    """The options and resources of an alignment.

    Attributes:
        match_on: what units are matched by.
        batches: prepared calibration samples on the models' device; empty without data.
        flow: options of the transport-map flow.
        groups: every symmetry, or only permutations.
        store: where finished work is cached.
        progress: displays progress.
        room: bytes that statistics of activations may take; None for no limit.
    """

    match_on: MatchOn
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
        spec: the declaration as the method transformed it.
        anchor: the anchor's tensors in the common basis, in canonical form if the method needs it.
        carried: the source's tensors in that basis.
        matches: the match of each space, by name. A common basis of several models, and maps that are trained, start
            from these and change `carried` alone.
        candidates: how much each candidate disagreed with the parents, if several were compared: in nats, or the mean
            square for models that predict numbers or have no head.
        output_deviation: largest change of the source's outputs, relative to their range; None if it was not measured.
    """

    spec: Spec
    anchor: Tensors
    carried: Tensors
    matches: Mapping[str, Match] = field(default_factory=dict)
    candidates: Mapping[str, float] = field(default_factory=dict)
    output_deviation: float | None = None

    def __repr__(self) -> str:
        """Return how many tensors are aligned, and the first spaces that were matched, in one line."""
        return f"Alignment of {counted(len(self.carried), 'tensor')}: {counted_names(list(self.matches), 'space')}"


def aligned_weights(alignments: Sequence[Alignment]) -> list[Tensors]:
    """Return the tensors of the anchor and of every source, ready to be merged."""
    return [alignments[0].anchor, *(alignment.carried for alignment in alignments)]


Method = Callable[[Network, Network, AlignContext], Alignment]
"""Aligns a source, the second network, to an anchor, the first."""
