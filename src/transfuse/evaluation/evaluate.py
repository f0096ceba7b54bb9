"""How good a model is, how good the line between two is, and what the controls reach."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.budget import fitting_parts, logits_at_once
from transfuse.evaluation.metrics import Metrics, Predictions, predictions
from transfuse.merging.mean import interpolate
from transfuse.network.model import with_tensors
from transfuse.network.scores import predict_in_slices

POSITIONS = 11  # points of a path, both ends included


@dataclass(frozen=True)
class LossPath:
    """Metrics along the straight line from the anchor (0) to a carried source (1), and the loss barrier.

    barrier = max over t of loss(t) - ((1 - t) loss(anchor) + t loss(source)), with the parents' own losses: a carried
    source that lost its function counts as a barrier too.

    Attributes:
        positions: from 0, the anchor, to 1, the carried source.
        points: metrics at each of them.
        barrier: in nats.
    """

    positions: tuple[float, ...]
    points: tuple[Metrics, ...]
    barrier: float

    def as_dict(self) -> dict[str, object]:
        """As JSON can hold it."""
        return asdict(self)


def evaluate(model: PreTrainedModel, batches: Iterable[Batch]) -> Metrics:
    """Metrics of one model."""
    return predict_answers(model, batches).metrics()


def predict_answers(model: PreTrainedModel, batches: Iterable[Batch]) -> Predictions:
    """Return what one model answers. Memory grows by a few numbers a sample."""

    def predict_log(batch: Batch) -> Iterator[Tensor]:
        return (scores.log_softmax(-1) for scores in predict_in_slices(model, batch, logits_at_once(model)))

    return predictions(predict_log, batches, partial(fitting_parts, [model]))


def ensemble(models: Sequence[PreTrainedModel], batches: Iterable[Batch]) -> Metrics:
    """Metrics of the mean of all models' probabilities: what fusion aims at, for as many times the cost."""
    return predict_ensemble(models, batches).metrics()


def predict_ensemble(models: Sequence[PreTrainedModel], batches: Iterable[Batch]) -> Predictions:
    """Return what the mean of all models' probabilities answers."""

    def predict_log(batch: Batch) -> Iterator[Tensor]:
        entries = min(map(logits_at_once, models)) // len(models)
        slices = (predict_in_slices(model, batch, entries) for model in models)
        for scores in zip(*slices, strict=True):
            mean = torch.stack([each.softmax(-1) for each in scores]).mean(0)
            yield mean.clamp_min(1e-12).log()

    return predictions(predict_log, batches, partial(fitting_parts, models))


def measure_path(
    model: PreTrainedModel,
    anchor: Mapping[str, Tensor],
    carried: Mapping[str, Tensor],
    parents: tuple[Metrics, Metrics],
    batches: Iterable[Batch],
    positions: int = POSITIONS,
    each: Callable[[float], object] = lambda position: None,
) -> LossPath:
    """Walk the line from `anchor` to `carried`.

    Args:
        model: gives the architecture; left unchanged.
        parents: metrics of the anchor and of the source themselves.
        each: called after every point with its position.
    """
    steps = tuple(index / (positions - 1) for index in range(positions))
    points = []
    for step in steps:
        points.append(evaluate(with_tensors(model, interpolate(anchor, carried, step)), batches))
        each(step)
    return LossPath(
        steps, tuple(points), barrier(steps, [point.loss for point in points], parents[0].loss, parents[1].loss)
    )


def barrier(positions: Sequence[float], losses: Sequence[float], start: float, end: float) -> float:
    """Largest excess of the loss over the straight line between the parents' losses."""
    return max(loss - ((1 - t) * start + t * end) for t, loss in zip(positions, losses, strict=True))
