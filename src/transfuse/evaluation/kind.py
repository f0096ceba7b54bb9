"""A kind of prediction, and how any kind is measured batch by batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, on_device, without_labels
from transfuse.base.budget import fitting_parts
from transfuse.base.in_parts import computed_in_parts
from transfuse.errors import DataError
from transfuse.evaluation.metrics import BINS, ClassReport, Predictions, Score, class_title, ratio
from transfuse.evaluation.unknown import without_unknown

Columns = Mapping[str, Tensor]
"""Numbers of each sample, by name; every tensor is [sample, ...]. `correct`, `counts` and `loss` are always there.

The loss is NaN where the outputs of a model are not numbers.
"""

NO_CLASSES = torch.zeros(0, dtype=torch.long)


@dataclass(frozen=True)
class Kind:
    """How models that predict something of a kind are compared with each other.

    Attributes:
        answers: returns what a model predicts for a batch, with labels or without.
        mean: returns the answers of an ensemble, given those of its models.
        agreement: compares answers with those of another model to the same batch: `correct`, `counts` and `loss`.
    """

    answers: Callable[[PreTrainedModel, Batch], Tensor]
    mean: Callable[[Sequence[Tensor]], Tensor]
    agreement: Callable[[Tensor, Tensor, Batch], Columns]


@dataclass(frozen=True)
class LabeledKind(Kind):
    """How models that predict something of a kind are also measured on labels.

    Attributes:
        columns: compares answers with the labels of a batch.
        scores: returns further metrics, given the columns of all samples and the class names.
        reports: returns precision, recall and F1 by class.
        whole: completes the columns with what only all samples together tell.
    """

    columns: Callable[[Tensor, Batch, Mapping[int, str]], Columns]
    scores: Callable[[Columns, Mapping[int, str]], Mapping[str, Score]]
    reports: Callable[[Columns, Mapping[int, str]], Mapping[str, ClassReport]] = lambda columns, names: {}
    whole: Callable[[Columns], Columns] = lambda columns: columns


@torch.no_grad()
def outputs(model: PreTrainedModel, batch: Batch) -> Mapping[str, Tensor]:
    """Return the outputs of a model for a batch from any device, without its labels."""
    found: Mapping[str, Tensor] = model(**on_device(without_labels(batch), model.device))
    return found


def arithmetic_mean(answers: Sequence[Tensor]) -> Tensor:
    """Return the mean of numbers or probabilities."""
    return torch.stack(list(answers)).mean(0)


def mean_of_log_probabilities(answers: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of probabilities, given as logarithms."""
    return answers[0] if len(answers) == 1 else torch.stack(list(answers)).logsumexp(0) - log(len(answers))


def f1(right: Tensor, predicted: Tensor, labeled: Tensor, axis: int = -1) -> Tensor:
    """Return F1, 0 where nothing is predicted or labeled.

    Args:
        right: true positives [..., sample].
        predicted: predictions.
        labeled: labels.
    """
    counts: Tensor = (predicted.sum(axis) + labeled.sum(axis)).clip(1e-12)
    return 2 * right.sum(axis) / counts


def class_reports(counts: Float[Tensor, "cls 3"], names: Mapping[int, str]) -> dict[str, ClassReport]:
    """Return the report of each class that occurs, given its true positives, predictions and labels."""
    reports = {}
    for index, (right, predicted, labeled) in enumerate(counts.tolist()):
        if predicted or labeled:
            shares = (right / max(predicted, 1), right / max(labeled, 1), 2 * right / (predicted + labeled))
            reports[class_title(index, names)] = ClassReport(*shares, int(labeled))
    return reports


def without_bins(
    columns: Columns, scores: Mapping[str, Score] | None = None, reports: Mapping[str, ClassReport] | None = None
) -> Predictions:
    """Return the columns of all samples as predictions without confidences."""
    bins = torch.full((BINS, 3), torch.nan, dtype=torch.float64)
    sums = (columns["correct"].double(), columns["counts"].double(), columns["loss"].double())
    return Predictions(*sums, bins, NO_CLASSES, NO_CLASSES, scores or {}, reports or {})


def predict_kind(
    kind: LabeledKind, names: Mapping[int, str], models: Sequence[PreTrainedModel], batches: Iterable[Batch]
) -> Predictions:
    """Return the predictions of a model, or of the ensemble of several, for labeled batches.

    Args:
        names: names of the classes.

    Raises:
        DataError: there is nothing to measure.
    """

    def columns(batch: Batch) -> Columns:
        answers = kind.mean([kind.answers(model, batch) for model in models])
        return kind.columns(answers.cpu(), _on_cpu(batch), names)

    found = kind.whole(all_columns(columns, models, batches))
    known = without_unknown(found)
    return without_bins(known, kind.scores(known, names), kind.reports(found, names))


def predict_agreement(
    kind: Kind,
    references: Sequence[PreTrainedModel],
    weights: Sequence[float],
    models: Sequence[PreTrainedModel],
    batches: Iterable[Batch],
) -> Predictions:
    """Return how a model, or the ensemble of several, agrees with other models on batches that need no labels.

    Args:
        references: the models to compare with.
        weights: one per reference; they sum to one.
    """

    def columns(batch: Batch) -> Columns:
        answers = kind.mean([kind.answers(model, batch) for model in models]).cpu()
        compared = [kind.agreement(answers, kind.answers(model, batch).cpu(), _on_cpu(batch)) for model in references]
        return {
            name: torch.stack([weight * found[name] for weight, found in zip(weights, compared, strict=True)]).sum(0)
            for name in compared[0]
        }

    found = without_unknown(all_columns(columns, [*models, *references], batches))
    scores = {"cosine": Score((found["cosine"], found["counts"]), ratio)} if "cosine" in found else {}
    return without_bins(found, scores)


def _on_cpu(batch: Batch) -> Batch:
    return {name: values.cpu() for name, values in batch.items()}


def all_columns(
    columns: Callable[[Batch], Columns], models: Sequence[PreTrainedModel], batches: Iterable[Batch]
) -> Columns:
    """Return the columns of all samples in order. Batches that do not fit in memory are computed in parts."""
    found = [_columns_of_batch(columns, models, batch) for batch in batches]
    if not found or not sum(float(part["counts"].sum()) for part in found):
        raise DataError("nothing to measure: no sample has a label that the model could predict")
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def _columns_of_batch(columns: Callable[[Batch], Columns], models: Sequence[PreTrainedModel], batch: Batch) -> Columns:
    parts, order = computed_in_parts(columns, partial(fitting_parts, models), batch)
    return {name: torch.cat([part[name] for part in parts])[order] for name in parts[0]}
