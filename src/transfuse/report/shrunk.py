"""What a user is told about a model that was made smaller."""

from transfuse.evaluation.comparison import Evaluation
from transfuse.evaluation.measures import has_confidence
from transfuse.report.facts import Measurement, Row, source_words

SMALL = "small model"


def shrunk_measurement(found: Evaluation, fitted_split: str | None) -> Measurement:
    """Return the evaluation of the small and the large model as a report shows it.

    Args:
        found: the evaluation, the small model first; without labels, the agreement of the small model with the large.
        fitted_split: the split of the data that the small model was fitted to; None: the data have no splits.
    """
    labeled = found.compared is None
    (_, small), *others = found.models.items()
    excess = small.metrics.loss - sum(large.metrics.loss for _, large in others)  # 0 without labels
    rows = [Row(SMALL, "fusion", small.metrics, small.intervals, excess)]
    rows += [Row(_large_name(path), "parent", large.metrics, large.intervals, 0.0) for path, large in others]
    calibration = ("calibration_error",) if has_confidence(found.measures) else ()
    return Measurement(
        rows,
        {_large_name(path): difference for path, difference in found.against.items()},
        {},
        (*found.measures, *calibration),
        source_words(found.data),
        found.split,
        calibrated=found.split == fitted_split,
        classes=small.classes,
        labeled=labeled,
    )


def _large_name(path: str) -> str:
    return f"large model: {path}"


def shrunk_verdict(measured: Measurement) -> str:
    """Return how the small model compares with the large one."""
    values = [measured.phrase(row) for row in measured.rows]
    if not measured.labeled:
        return f"Without labels, the small model reaches {values[0].replace('the parents', 'the large model')}."
    return f"The small model reaches {values[0]}, and the large one {values[1]}."
