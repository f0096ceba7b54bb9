"""Choose how models are measured: on labels, or by their agreement with other models."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.data.tasks import Task
from transfuse.evaluation.evaluate import predict_classes
from transfuse.evaluation.kind import LabeledKind, predict_agreement, predict_kind
from transfuse.evaluation.kinds import KINDS
from transfuse.evaluation.metrics import Predictions

PredictModels = Callable[[Sequence[PreTrainedModel], Iterable[Batch]], Predictions]


@dataclass(frozen=True)
class Predictor:
    """How models of one task are measured.

    Attributes:
        measures: names of the metrics to report.
        predict: returns the predictions of a model, or of the ensemble of several, for some batches.
    """

    measures: tuple[str, ...]
    predict: PredictModels


def label_predictor(model_task: Task, names: Mapping[int, str]) -> Predictor:
    """Return how models are measured on labels.

    Args:
        names: names of the classes.
    """
    kind = KINDS[model_task.kind]
    predict = partial(predict_kind, kind, names) if isinstance(kind, LabeledKind) else predict_classes
    return Predictor(model_task.measures, predict)


def agreement_predictor(model_task: Task, references: Sequence[PreTrainedModel], weights: Sequence[float]) -> Predictor:
    """Return how models are measured without labels: by their agreement with other models.

    Args:
        weights: one per reference; they sum to one.
    """
    kind = KINDS[model_task.kind]
    return Predictor(agreement_measures(model_task), partial(predict_agreement, kind, references, weights))


def agreement_measures(model_task: Task) -> tuple[str, ...]:
    """Return the names of the metrics of agreement between models without labels."""
    if model_task.kind in ("outputs", "numbers"):
        return model_task.measures if model_task.kind == "outputs" else ("squared_difference",)
    return ("agreement", "divergence")
