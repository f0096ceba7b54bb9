"""Fuse two models by every method and compare the results with the parents, an ensemble and controls."""

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
    "flow, soft": {"align": "flow", "flow": {"plan": "soft"}},
    "flow, hard": {"align": "flow", "flow": {"plan": "hard"}},
    "permutations only": {"align": "exact", "groups": "permutations", "merge": "mean"},
    "exact, weights only": {"align": "exact", "match_on": "weights", "merge": "mean"},
    "exact": {"align": "exact", "merge": "mean"},
    "exact, least squares": {"align": "exact", "merge": "least-squares"},
    "learned": {"align": "learned", "merge": "mean"},
    "learned, least squares": {"align": "learned", "merge": "least-squares"},
    "uniform plan (control)": {"align": "flow", "flow": {"plan": "uniform"}},
}
HALF_ANCHOR = "half the anchor (control)"


@dataclass(frozen=True)
class Row:
    """Hold one row of the comparison.

    Attributes:
        name: the method, parent or control.
        barrier: the loss barrier in nats on the line between the aligned models. For fitted layers, which are not on
            that line, it is the loss above the parents' mean loss, or 0 if there is none.
        seconds: the time for aligning and merging, including the passes over calibration samples.
    """

    name: str
    metrics: Metrics
    barrier: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Hold the rows of a comparison.

    Attributes:
        paths: the loss between the aligned models, by method; methods that fit layers have none.
        alignments: the alignment of the source, by method.
    """

    rows: tuple[Row, ...]
    paths: dict[str, LossPath] = field(default_factory=dict)
    alignments: dict[str, Alignment] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """Return the row with this name."""
        return next(row for row in self.rows if row.name == name)


def compare(
    anchor: PreTrainedModel,
    source: PreTrainedModel,
    calibration: Any,
    batches: Sequence[Batch],
    processor: Any,
    methods: Iterable[str] = METHODS,
    options: Mapping[str, Any] = MappingProxyType({}),
    progress: Progress = silent,
) -> Comparison:
    """Fuse `source` into `anchor` by every method and measure the results, the parents and the controls.

    Args:
        calibration: the samples that units are matched on.
        batches: the labeled batches to measure on.
        processor: prepares the calibration samples.
        methods: names in `METHODS`.
        options: further options of every fusion.

    Raises:
        TransfuseError: the models cannot be fused by one of the methods.
    """
    parents = (evaluate(anchor, batches), evaluate(source, batches))
    rows = [Row("anchor", parents[0]), Row("other parent", parents[1])]
    paths: dict[str, LossPath] = {}
    alignments: dict[str, Alignment] = {}
    for name in progress.track(list(methods), "fusing by every method"):
        start = time.perf_counter()
        fusion = fuse([anchor, source], calibration, processor=processor, **METHODS[name], **options)
        seconds = time.perf_counter() - start
        (alignment,) = fusion.alignments
        metrics = evaluate(fusion.model, batches)
        if "least_squares" in fusion.record:  # fitted layers are not on the line between the models
            barrier = max(0.0, metrics.loss - (parents[0].loss + parents[1].loss) / 2)
        else:
            paths[name] = measure_path(anchor, alignment.anchor, alignment.carried, parents, batches)
            barrier = paths[name].barrier
        rows.append(Row(name, metrics, barrier, seconds))
        alignments[name] = alignment
    rows.append(_half_anchor(anchor, parents, batches))
    rows.append(Row("ensemble (twice the cost)", ensemble([anchor, source], batches)))
    return Comparison(tuple(rows), paths, alignments)


def _half_anchor(anchor: PreTrainedModel, parents: tuple[Metrics, Metrics], batches: Sequence[Batch]) -> Row:
    """Return the control: the anchor averaged with zeros, as if the other parent contributed nothing."""
    tensors = network(anchor, anchor.device).tensors
    zeros = {name: torch.zeros_like(values) for name, values in tensors.items()}
    path = measure_path(anchor, tensors, zeros, parents, batches)
    return Row(HALF_ANCHOR, path.points[len(path.points) // 2], path.barrier)
