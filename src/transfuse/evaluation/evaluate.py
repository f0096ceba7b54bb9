"""Evaluation of a model, of an ensemble, and of the straight line between two models."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.budget import fitting_parts, logits_at_once
from transfuse.evaluation.kind import mean_of_log_probabilities
from transfuse.evaluation.log_probabilities import predictions
from transfuse.evaluation.metrics import Metrics, Predictions, metrics_dict
from transfuse.merging.mean import interpolate
from transfuse.network.model import with_tensors
from transfuse.network.outputs import predict_in_slices

POSITIONS = 11  # points of a path, including both ends


@dataclass(frozen=True)
class LossPath:
    """Metrics along the straight line from the anchor to an aligned source, and the loss barrier.

    barrier = max over t of loss(t) - ((1 - t) loss(anchor) + t loss(source)), with the losses of the original models.
    An aligned source that lost its function therefore counts as a barrier, too.

    Attributes:
        positions: from 0, the anchor, to 1, the aligned source.
        points: metrics at each position.
        barrier: in the unit of the loss.
        measures: names of the metrics.
    """

    positions: tuple[float, ...]
    points: tuple[Metrics, ...]
    barrier: float
    measures: tuple[str, ...] = ("accuracy", "loss")

    def as_dict(self) -> dict[str, object]:
        """Return the path as values that JSON can represent."""
        points = [metrics_dict(point, self.measures) for point in self.points]
        return {"positions": self.positions, "points": points, "barrier": self.barrier}


def predict_classes(models: Sequence[PreTrainedModel], batches: Iterable[Batch]) -> Predictions:
    """Return the predictions of a classifier or a language model, or of the ensemble of several."""
    return predict_answers(models[0], batches) if len(models) == 1 else predict_ensemble(models, batches)


def evaluate(
    model: PreTrainedModel,
    batches: Iterable[Batch],
    predict: Callable[[Sequence[PreTrainedModel], Iterable[Batch]], Predictions] = predict_classes,
) -> Metrics:
    """Return the metrics of a model on labeled batches.

    Args:
        predict: returns the predictions of models of this task.
    """
    return predict([model], batches).metrics()


def predict_answers(model: PreTrainedModel, batches: Iterable[Batch]) -> Predictions:
    """Return the predictions of a model on labeled batches. Memory grows by a few numbers per sample."""

    def predict_log(batch: Batch) -> Iterator[Tensor]:
        return (logits.log_softmax(-1) for logits in predict_in_slices(model, batch, logits_at_once(model)))

    return predictions(predict_log, batches, partial(fitting_parts, [model]))


def ensemble(models: Sequence[PreTrainedModel], batches: Iterable[Batch]) -> Metrics:
    """Return the metrics of the models' mean probabilities, a target for fusion at a multiple of its cost."""
    return predict_ensemble(models, batches).metrics()


def predict_ensemble(models: Sequence[PreTrainedModel], batches: Iterable[Batch]) -> Predictions:
    """Return the predictions by the mean of the models' probabilities."""

    def predict_log(batch: Batch) -> Iterator[Tensor]:
        entries = min(map(logits_at_once, models)) // len(models)
        slices = (predict_in_slices(model, batch, entries) for model in models)
        for model_logits in zip(*slices, strict=True):
            yield mean_of_log_probabilities([logits.log_softmax(-1) for logits in model_logits])

    return predictions(predict_log, batches, partial(fitting_parts, models))


def measure_path(
    model: PreTrainedModel,
    anchor: Mapping[str, Tensor],
    carried: Mapping[str, Tensor],
    parents: tuple[Metrics, Metrics],
    batches: Iterable[Batch],
    positions: int = POSITIONS,
    on_position: Callable[[float], object] = lambda position: None,
    predict: Callable[[Sequence[PreTrainedModel], Iterable[Batch]], Predictions] = predict_classes,
) -> LossPath:
    """Evaluate models along the straight line from `anchor` to `carried`.

    Args:
        model: gives the architecture. It is left unchanged.
        anchor: tensors at the start of the line.
        carried: tensors at its end.
        parents: metrics of the original anchor and source.
        batches: labeled samples.
        positions: number of points, including both ends.
        on_position: called with each position after it was evaluated.
        predict: returns the predictions of models of this task.
    """
    steps = tuple(index / (positions - 1) for index in range(positions))
    points = []
    for step in steps:
        points.append(evaluate(with_tensors(model, interpolate(anchor, carried, step)), batches, predict))
        on_position(step)
    losses = [point.loss for point in points]
    return LossPath(steps, tuple(points), barrier(steps, losses, parents[0].loss, parents[1].loss))


def barrier(positions: Sequence[float], losses: Sequence[float], start: float, end: float) -> float:
    """Return the largest excess of the loss over the straight line between the losses of both parents."""
    return max(loss - ((1 - t) * start + t * end) for t, loss in zip(positions, losses, strict=True))
