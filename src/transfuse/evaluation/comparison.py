"""What `transfuse eval` tells: how good models are, how sure that is, and how the first differs from the others."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from transfuse.evaluation.metrics import ClassReport, Metrics, Predictions
from transfuse.evaluation.statistics import Difference, Intervals, difference, intervals


@dataclass(frozen=True)
class Measured:
    """One model. `classes` is empty for what is no classifier."""

    metrics: Metrics
    certainty: Intervals
    classes: Mapping[str, ClassReport]


@dataclass(frozen=True)
class Evaluation:
    """Several models on the same samples.

    Attributes:
        against: how the first differs from each other one.
        measures: what of `Metrics` tells something of such models.
    """

    models: Mapping[str, Measured]
    against: Mapping[str, Difference]
    measures: Sequence[str]

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """One entry per model, for JSON; the differences stand with the first."""
        found = {
            name: asdict(each.metrics)
            | {measure: getattr(each.metrics, measure) for measure in self.measures}
            | {"intervals": asdict(each.certainty)}
            | ({"classes": {label: asdict(grades) for label, grades in each.classes.items()}} if each.classes else {})
            for name, each in self.models.items()
        }
        if self.against:
            found[next(iter(found))]["against"] = {name: asdict(each) for name, each in self.against.items()}
        return found


def evaluation(
    outcomes: Mapping[str, Predictions],
    classes: Mapping[str, Mapping[int, str]],
    measures: Sequence[str],
    seed: int = 0,
) -> Evaluation:
    """Of models by name, the first compared with each other one that was asked the same.

    Args:
        classes: of each model, the names of its own classes.
    """
    models = {
        model: Measured(found.metrics(), intervals(found, seed), found.grades(classes[model]))
        for model, found in outcomes.items()
    }
    (_, first), *others = outcomes.items()
    against = {name: difference(first, other, seed) for name, other in others if len(first.asked) == len(other.asked)}
    return Evaluation(models, against, measures)
