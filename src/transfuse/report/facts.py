"""The facts that a report shows: the measurements of all models, and the match of every space."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor

from transfuse.alignment.interface import Alignment
from transfuse.alignment.similarity import cosine_similarities
from transfuse.base.counted import counted
from transfuse.config.data_options import is_generated
from transfuse.data.files.splits import with_split
from transfuse.evaluation.evaluate import LossPath
from transfuse.evaluation.measures import MEASURES, headline, phrase, unit
from transfuse.evaluation.metrics import ClassReport, Metrics
from transfuse.evaluation.statistics import Difference, Intervals
from transfuse.fusion.other_processors import OtherProcessor
from transfuse.fusion.record import match_diagnostics
from transfuse.network.block_numbers import block_number, kind_name
from transfuse.network.spec import Spec
from transfuse.transport.solve import Match

Role = Literal["parent", "control", "fusion", "ensemble"]


def source_words(source: str) -> str:
    """Return where samples come from, in words if the models wrote them themselves."""
    return "generated texts" if is_generated(source) else source


@dataclass(frozen=True)
class Row:
    """The measurement of one model. `excess` is its loss minus the weighted mean of the parents' losses."""

    name: str
    role: Role
    metrics: Metrics
    intervals: Intervals
    excess: float


@dataclass(frozen=True)
class Measurement:
    """The measurements of all models on one set of samples.

    Attributes:
        rows: one row per model.
        against: the fusion's metrics minus those of each parent, by name.
        lines: paths from the anchor to each aligned model, by name.
        measures: names of the metrics of such models.
        source: where the samples come from.
        split: the split of the source; None if it has no splits.
        calibrated: whether the same samples were used for the fusion.
        classes: reports of the fusion's classes; empty if it is not a classifier.
        labeled: whether the samples have labels; otherwise, models are compared with the parents.
        aligned: whether the models were aligned before they were merged.
        bases_predict: whether all parents have heads of their own, where a fine-tune was carried.
        other_processors: parents whose processors differ from the anchor's, which prepared the samples.
    """

    rows: Sequence[Row]
    against: Mapping[str, Difference]
    lines: Mapping[str, LossPath]
    measures: Sequence[str]
    source: str = ""
    split: str | None = None
    calibrated: bool = False
    classes: Mapping[str, ClassReport] = field(default_factory=dict)
    labeled: bool = True
    aligned: bool = True
    bases_predict: bool = True
    other_processors: Sequence[OtherProcessor] = ()

    @property
    def samples_name(self) -> str:
        """Where the samples come from, with the split."""
        return with_split(self.source, self.split)

    @property
    def headline(self) -> str:
        """The metric that the models are judged by."""
        return headline(self.measures)

    @property
    def unit(self) -> str:
        """What the predictions are counted in."""
        return unit(self.measures)

    @property
    def amount(self) -> str:
        """The number of predictions, as "1 sample" or "2,000 tokens"."""
        return counted(self.rows[0].metrics.samples, self.unit.removesuffix("s"), ",")

    @property
    def table_measures(self) -> list[str]:
        """The metrics that have a column with intervals."""
        return [measure for measure in self.measures if measure != "calibration_error"]

    def of(self, role: Role) -> list[Row]:
        """Return the rows with this role."""
        return [row for row in self.rows if row.role == role]

    @property
    def ranking(self) -> str:
        """The metric by which the fusion is ranked among its parents: the headline, but not agreement with them.

        Each parent agrees fully with itself, so with two parents of equal weight no other model can agree more.
        """
        return "divergence" if self.headline == "agreement" else self.headline

    def quality(self, row: Row, measure: str | None = None) -> float:
        """Return a number that is higher for a better model, by the headline metric or another one."""
        measure = measure or self.headline
        value = row.metrics.value(measure)
        return -value if MEASURES[measure].lower_is_better else value

    def phrase(self, *rows: Row, measure: str | None = None) -> str:
        """Return a sentence's words for the headline metric of some models, or for another one."""
        measure = measure or self.headline
        return phrase(measure, *(row.metrics.value(measure) for row in rows))


@dataclass(frozen=True)
class Pair:
    """A unit of the anchor and its best match in the source. `share` is the share of the source unit that is mapped."""

    anchor: int
    source: int
    share: float
    cosine_similarity: float


@dataclass(frozen=True)
class MatchedSpace:
    """The match of one space of one source.

    Attributes:
        model: the number of the source; the first after the anchor is 1.
        space: the name of the space.
        kind: its name without the block.
        block: the number of its block; None outside blocks.
        cosine_similarity: mean similarity of matched units' weights; None for a space within another.
        pairs: matched units, for a space that encloses others, as heads enclose channels.
        diagnostics: size, cost, exactness, entropy and effective support.
    """

    model: int
    space: str
    kind: str
    block: int | None
    cosine_similarity: float | None
    pairs: Sequence[Pair]
    diagnostics: Mapping[str, float | int]


@dataclass(frozen=True)
class Facts:
    """The content of `report.json`. `measured` is None without labeled samples."""

    title: str
    verdict: str
    command: str
    record: Mapping[str, Any]
    matched: Sequence[MatchedSpace]
    measured: Measurement | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the facts as values that JSON can represent, with the perplexity of language models."""
        facts = asdict(self)
        if self.measured is not None and "perplexity" in self.measured.measures:
            for row, entry in zip(self.measured.rows, facts["measured"]["rows"], strict=True):
                entry["metrics"]["perplexity"] = row.metrics.perplexity
        return facts


def matched_spaces(spec: Spec, alignments: Sequence[Alignment]) -> list[MatchedSpace]:
    """Return the matches of all spaces of all sources.

    Args:
        spec: the anchor's declaration, as the alignment transforms it.
        alignments: one per source.
    """
    spaces = spec.spaces()
    enclosing = {parent.name for space in spaces.values() if space.units > 1 for parent in space.ancestors()}
    matched = []
    for model, alignment in enumerate(alignments, 1):
        similarities = cosine_similarities(spec, alignment.anchor, alignment.carried) if alignment.matches else {}
        for name, match in alignment.matches.items():
            similarity = similarities.get(name)
            pairs = _pairs(match, similarity) if similarity is not None and name in enclosing else ()
            matched.append(
                MatchedSpace(
                    model,
                    name,
                    kind_name(name),
                    block_number(name),
                    None if similarity is None else float(similarity.mean()),
                    pairs,
                    match_diagnostics(match),
                )
            )
    return matched


def _pairs(match: Match, similarity: Tensor) -> tuple[Pair, ...]:
    shares, sources = match.map.plan().max(0)
    return tuple(
        Pair(unit, int(source), float(share), float(cosine))
        for unit, (source, share, cosine) in enumerate(zip(sources, shares, similarity, strict=True))
    )
