"""What a report says: how good everything is, and what happened to every space."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from transfuse.alignment.interface import Alignment
from transfuse.alignment.similarity import cosine_similarities
from transfuse.evaluation.evaluate import LossPath
from transfuse.evaluation.metrics import ClassReport, Metrics
from transfuse.evaluation.statistics import Difference, Intervals
from transfuse.fusion.plan import BLOCK, kind
from transfuse.fusion.record import diagnose
from transfuse.network.spec import Spec

Role = Literal["parent", "control", "fusion", "ensemble"]


@dataclass(frozen=True)
class Row:
    """A model, measured. `excess`: its loss over the weighted mean of the parents' own, in nats."""

    name: str
    role: Role
    metrics: Metrics
    certainty: Intervals
    excess: float


@dataclass(frozen=True)
class Measurement:
    """What was measured on one set of samples.

    Attributes:
        against: how the fusion differs from each parent.
        lines: from the anchor to each aligned model, by name.
        measures: what of `Metrics` tells something of such models.
        source: of the samples; `calibrated`: whether the models were fused by the same.
        classes: of the fusion, every class, where it is a classifier.
    """

    rows: Sequence[Row]
    against: Mapping[str, Difference]
    lines: Mapping[str, LossPath]
    measures: Sequence[str]
    source: str = ""
    calibrated: bool = False
    classes: Mapping[str, ClassReport] = field(default_factory=dict)

    def of(self, role: Role) -> list[Row]:
        """The rows with this role."""
        return [row for row in self.rows if row.role == role]


@dataclass(frozen=True)
class Pair:
    """A unit of the anchor and the unit of the source that meets it. `share`: of the source unit, what goes there."""

    anchor: int
    source: int
    share: float
    agreement: float


@dataclass(frozen=True)
class MatchedSpace:
    """What became of one space of one source.

    Attributes:
        model: which source, the first after the anchor is 1.
        kind: the space's name without its block.
        agreement: the mean cosine between matched units' weights; None: of spaces within others.
        pairs: of spaces that have others within them, as heads have channels.
        found: size, cost, exactness, entropy, effective support.
    """

    model: int
    space: str
    kind: str
    block: int | None
    agreement: float | None
    pairs: Sequence[Pair]
    found: Mapping[str, float | int]


@dataclass(frozen=True)
class Facts:
    """All that `report.json` holds. `measured` is None where there was nothing to measure on."""

    title: str
    verdict: str
    command: str
    record: Mapping[str, Any]
    matched: Sequence[MatchedSpace]
    measured: Measurement | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def matched_spaces(spec: Spec, alignments: Sequence[Alignment]) -> list[MatchedSpace]:
    """Every space of every source.

    Args:
        spec: the anchor's declaration, as the alignment sees it.
    """
    spaces = spec.spaces()
    around = {parent.name for space in spaces.values() if space.units > 1 for parent in space.ancestors()}
    found = []
    for index, aligned in enumerate(alignments, 1):
        known = cosine_similarities(spec, aligned.anchor, aligned.carried) if aligned.matches else {}
        for name, match in aligned.matches.items():
            cosines = known.get(name)
            pairs: tuple[Pair, ...] = ()
            if cosines is not None and name in around:
                shares, sources = match.map.plan().max(0)
                pairs = tuple(
                    Pair(unit, int(source), float(share), float(cosine))
                    for unit, (source, share, cosine) in enumerate(zip(sources, shares, cosines, strict=True))
                )
            block = BLOCK.search(name)
            mean = None if cosines is None else float(cosines.mean())
            found.append(
                MatchedSpace(index, name, kind(name), int(block[2]) if block else None, mean, pairs, diagnose(match))
            )
    return found
