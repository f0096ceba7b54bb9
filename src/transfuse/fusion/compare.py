"""Every way to fuse two models, beside the controls that show what an alignment is worth."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from transformers import PreTrainedModel

from transfuse.alignment.interface import Alignment
from transfuse.base.batch import Batch
from transfuse.base.progress import Progress, silent
from transfuse.evaluation.evaluate import LossPath, Metrics, ensemble, evaluate, measure_path
from transfuse.fusion.fuse import fuse
from transfuse.network.model import network

METHODS: dict[str, dict[str, Any]] = {
    "plain average": {"align": "none"},
    "flow, soft": {"align": "flow", "plan": "soft"},
    "flow, hard": {"align": "flow", "plan": "hard"},
    "permutations only": {"align": "exact", "groups": "permutations", "merge": "mean"},
    "exact, weights only": {"align": "exact", "match_on": "weights", "merge": "mean"},
    "exact": {"align": "exact", "merge": "mean"},
    "exact, least squares": {"align": "exact", "merge": "least-squares"},
    "learned": {"align": "learned", "merge": "mean"},
    "learned, least squares": {"align": "learned", "merge": "least-squares"},
    "uniform plan (control)": {"align": "flow", "plan": "uniform"},
}
HALF = "half the anchor (control)"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        barrier: in nats, of the line between the aligned models; of a fusion that does not lie on it, its own excess.
        seconds: aligning and merging, calibration passes included.
    """

    name: str
    metrics: Metrics
    barrier: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Comparison:
    """All rows, and for each way its path and its alignment."""

    rows: tuple[Row, ...]
    lines: dict[str, LossPath] = field(default_factory=dict)
    alignments: dict[str, Alignment] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of that name."""
        return next(row for row in self.rows if row.name == name)


def compare(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    calibration: Any,
    batches: Sequence[Batch],
    processor: Any,
    ways: Iterable[str] = METHODS,
    options: Mapping[str, Any] = MappingProxyType({}),
    progress: Progress = silent,
) -> Comparison:
    """Fuse `source` into `anchor` every way and measure on `batches`, parents, controls and ensemble included.

    Args:
        processor: prepares the calibration samples.
        options: further options of every fusion.
    """
    parents = evaluate(anchor, batches), evaluate(source, batches)
    rows = [Row("anchor", parents[0]), Row("other parent", parents[1])]
    lines, alignments = {}, {}
    for name in progress.track(list(ways), "fusing every way"):
        start = time.perf_counter()
        fusion = fuse([anchor, source], calibration, processor=processor, **METHODS[name], **options)
        seconds = time.perf_counter() - start
        (aligned,) = fusion.alignments
        found = evaluate(fusion.model, batches)
        if "least_squares" not in fusion.record:
            lines[name] = measure_path(anchor, aligned.anchor, aligned.carried, parents, batches)
            over = lines[name].barrier
        else:  # it does not lie on the line
            over = max(0.0, found.loss - (parents[0].loss + parents[1].loss) / 2)
        rows.append(Row(name, found, over, seconds))
        alignments[name] = aligned
    tensors = network(anchor, anchor.device).tensors
    nothing = {name: torch.zeros_like(values) for name, values in tensors.items()}
    half = measure_path(anchor, tensors, nothing, parents, batches)
    rows.append(Row(HALF, half.points[len(half.points) // 2], half.barrier))
    rows.append(Row("ensemble (twice the cost)", ensemble([anchor, source], batches)))
    return Comparison(tuple(rows), lines, alignments)
