"""The evaluation of several models on the same samples: the result of `transfuse eval`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transfuse.evaluation.metrics import ClassReport, Metrics, Predictions
from transfuse.evaluation.statistics import Difference, Intervals, difference, intervals


@dataclass(frozen=True)
class ModelEvaluation:
    """The evaluation of one model. `classes` is empty if the model is no classifier."""

    metrics: Metrics
    intervals: Intervals
    classes: Mapping[str, ClassReport]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of several models on the same samples.

    Attributes:
        models: one evaluation per model, by name.
        against: the first model's metrics minus those of each other model, by name.
        measures: fields of `Metrics` that apply to such models.
        data: the name of the data.
        split: the split that was measured; None if the data have no splits.
    """

    models: Mapping[str, ModelEvaluation]
    against: Mapping[str, Difference]
    measures: Sequence[str]
    data: str = ""
    split: str | None = None

    def records(self) -> list[dict[str, Any]]:
        """Return one record per model as values that JSON can represent. The differences are part of the first."""
        measured = {"data": self.data, "split": self.split}
        records = [{"path": name} | measured | self._entry(model) for name, model in self.models.items()]
        if self.against:
            records[0]["against"] = [{"path": name} | asdict(other) for name, other in self.against.items()]
        return records

    def _entry(self, model: ModelEvaluation) -> dict[str, Any]:
        measures = {measure: getattr(model.metrics, measure) for measure in self.measures}
        entry = asdict(model.metrics) | measures | {"intervals": asdict(model.intervals)}
        if model.classes:
            entry["classes"] = {name: asdict(report) for name, report in model.classes.items()}
        return entry


def evaluation(
    predictions: Mapping[str, Predictions],
    classes: Mapping[str, Mapping[int, str]],
    measures: Sequence[str],
    seed: int = 0,
) -> Evaluation:
    """Return the evaluation of several models, and compare the first with each other model on equal samples.

    Args:
        predictions: predictions by the name of the model.
        classes: the class names of each model.
        measures: fields of `Metrics` that apply to such models.
        seed: seed of the resampling.
    """
    models = {
        name: ModelEvaluation(model.metrics(), intervals(model, seed), model.class_reports(classes[name]))
        for name, model in predictions.items()
    }
    (_, first), *others = predictions.items()
    against = {name: difference(first, other, seed) for name, other in others if len(first.counts) == len(other.counts)}
    return Evaluation(models, against, measures)
