"""The evaluation of several models on the same samples: the result of `transfuse eval`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transfuse.evaluation.measures import has_confidence, rounds_near_zero
from transfuse.evaluation.metrics import ClassReport, Metrics, Predictions, metrics_dict
from transfuse.evaluation.statistics import Difference, Intervals, difference, intervals, predicts_as_often


@dataclass(frozen=True)
class ModelEvaluation:
    """The evaluation of one model. `classes` is empty if the model is not a classifier."""

    metrics: Metrics
    intervals: Intervals
    classes: Mapping[str, ClassReport]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of several models on the same samples.

    Attributes:
        models: one evaluation per model, by name.
        against: the first model's metrics minus those of each other model, by name.
        measures: names of the metrics of such models.
        compared: the model whose agreement with the others was measured, because there were no labels.
        data: the name of the data.
        split: the split that was measured; None if the data have no splits.
    """

    models: Mapping[str, ModelEvaluation]
    against: Mapping[str, Difference]
    measures: Sequence[str]
    compared: str | None = None
    data: str = ""
    split: str | None = None

    def records(self) -> list[dict[str, Any]]:
        """Return one record per model as values that JSON can represent. The differences are part of the first.

        Without labels, there is one record of the first model, with its agreement with each other one.
        """
        measured = {"data": self.data, "split": self.split}
        entries = {name: {"path": name} | self._entry(model) for name, model in self.models.items()}
        if self.compared is not None:
            return [{"path": self.compared} | measured | {"agreement_with": list(entries.values())}]
        records = [entry | measured for entry in entries.values()]
        if self.against:
            others = self.against.items()
            records[0]["against"] = [{"path": name} | self._difference(other) for name, other in others]
        return records

    def _entry(self, model: ModelEvaluation) -> dict[str, Any]:
        intervals = {measure: model.intervals.interval(measure) for measure in dict.fromkeys((*self.measures, "loss"))}
        entry: dict[str, Any] = metrics_dict(model.metrics, self.measures) | {"intervals": intervals}
        if model.classes:
            entry["classes"] = {name: asdict(report) for name, report in model.classes.items()}
        return entry

    def _difference(self, difference: Difference) -> dict[str, Any]:
        if has_confidence(self.measures):
            own = {name: value for name, value in asdict(difference).items() if name != "scores"}
            return own | {name: asdict(score) for name, score in difference.scores.items() if name in self.measures}
        return {measure: asdict(difference.of(measure)) for measure in self.measures}


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
        measures: names of the metrics of such models.
        seed: seed of the resampling.
    """
    models = {
        name: ModelEvaluation(model.metrics(), intervals(model, seed), model.class_reports(classes[name]))
        for name, model in predictions.items()
    }
    (_, first), *others = predictions.items()
    near_zero = rounds_near_zero(measures)
    compared = [(name, other) for name, other in others if _comparable(first, other, measures)]
    against = {name: difference(first, other, seed, near_zero) for name, other in compared}
    return Evaluation(models, against, measures)


def _comparable(first: Predictions, other: Predictions, measures: Sequence[str]) -> bool:
    """Return whether two models were measured on equal samples, by a metric that both have in the same unit."""
    if len(first.counts) != len(other.counts):
        return False
    return predicts_as_often(first, other) or any(name in first.scores and name in other.scores for name in measures)
