"""How good a model is, how good the line between two is, and what the controls reach."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import nll_loss
from transformers import PreTrainedModel

from transfuse.batch import Batch, answers
from transfuse.errors import DataError
from transfuse.merge.mean import interpolate
from transfuse.network.model import predict, with_tensors

POSITIONS = 11  # points of a path, both ends included


@dataclass(frozen=True)
class Metrics:
    """Accuracy in [0, 1] and mean cross-entropy in nats over `samples`: images, texts, or words to be guessed."""

    accuracy: float
    loss: float
    samples: int

    @property
    def perplexity(self) -> float:
        """exp(loss): of a language model, among how many words it hesitates."""
        return exp(min(self.loss, 700.0))


@dataclass(frozen=True)
class Path:
    """Metrics along the straight line from the anchor (0) to a carried source (1), and the loss barrier.

    barrier = max over t of loss(t) - ((1 - t) loss(anchor) + t loss(source)), with the parents' own losses: a carried
    source that lost its function counts as a barrier too.
    """

    positions: tuple[float, ...]
    points: tuple[Metrics, ...]
    barrier: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def score(predict_log: Callable[[Batch], Float[Tensor, "sample cls"]], batches: Iterable[Batch]) -> Metrics:
    """Metrics of log-probabilities, batch by batch: memory does not grow with the samples."""
    right, loss, count = 0.0, 0.0, 0
    for batch in batches:
        found, labels = predict_log(batch).cpu(), answers(batch).cpu()
        right += float((found.argmax(-1) == labels).sum())
        loss += float(nll_loss(found.double(), labels, reduction="sum"))
        count += len(labels)
    if not count:
        raise DataError("nothing to measure: no text has a word that could be guessed; give longer texts")
    return Metrics(right / count, loss / count, count)


def evaluate(model: PreTrainedModel, batches: Iterable[Batch]) -> Metrics:
    """Metrics of one model."""
    return score(lambda batch: predict(model, batch).log_softmax(-1), batches)


def ensemble(models: Sequence[PreTrainedModel], batches: Iterable[Batch]) -> Metrics:
    """Metrics of the mean of all models' probabilities: what fusion aims at, for as many times the cost."""

    def together(batch: Batch) -> Tensor:
        outputs = [predict(model, batch).softmax(-1) for model in models]
        return torch.stack(outputs).mean(0).clamp_min(1e-12).log()

    return score(together, batches)


def path(
    model: PreTrainedModel, anchor: Mapping[str, Tensor], carried: Mapping[str, Tensor],
    parents: tuple[Metrics, Metrics], batches: Iterable[Batch], positions: int = POSITIONS,
    each: Callable[[float], object] = lambda position: None,
) -> Path:  # fmt: skip
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
    return Path(
        steps, tuple(points), barrier(steps, [point.loss for point in points], parents[0].loss, parents[1].loss)
    )


def barrier(positions: Sequence[float], losses: Sequence[float], start: float, end: float) -> float:
    """Largest excess of the loss over the straight line between the parents' losses."""
    return max(loss - ((1 - t) * start + t * end) for t, loss in zip(positions, losses, strict=True))
