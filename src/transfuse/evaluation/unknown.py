"""Samples for which a model's outputs are not numbers. Their loss is NaN, and no score of the model is known then."""

from collections.abc import Mapping
from math import nan

from torch import Tensor

from transfuse.base.counted import counted
from transfuse.base.progress import Progress
from transfuse.evaluation.metrics import Predictions


def without_unknown(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the columns with NaN in place of what is told by outputs that are not numbers, such as their largest.

    Args:
        columns: numbers of each sample, by name; every tensor is [sample, ...]. `loss` is one of them.
    """
    unknown = columns["loss"].isnan()
    return {
        name: values.masked_fill(unknown.view(-1, *[1] * (values.ndim - 1)), nan)
        if name != "counts" and values.is_floating_point()
        else values
        for name, values in columns.items()
    }


def warn_of_unknown(name: str, predictions: Predictions, progress: Progress) -> None:
    """Warn if a model's outputs for some samples are not numbers."""
    if predictions.unknown:
        samples = counted(len(predictions.loss), "sample")
        progress.warn(
            f"{name}: outputs for {predictions.unknown} of {samples} are not numbers (NaN or infinite), so all scores"
            " are NaN; check the weights"
        )
