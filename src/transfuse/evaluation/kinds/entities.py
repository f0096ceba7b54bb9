"""Token classification: F1 over entities, as the CoNLL evaluation counts them (Tjong Kim Sang and De Meulder, 2003)."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from transfuse.base.batch import IGNORED_LABEL, Batch
from transfuse.evaluation.kind import Columns, LabeledKind, class_reports, f1, mean_of_log_probabilities
from transfuse.evaluation.kinds.classes import answers, divergence
from transfuse.evaluation.metrics import ClassReport, Score

OUTSIDE = "O"
BEGIN, END = frozenset("BSU"), frozenset("ESUL")  # of the schemes IOB, IOBES and BILOU
INSIDE = "I"
Span = tuple[str, int, int]
"""The type of an entity, its first word, and the word after its last."""


def columns(log_probabilities: Tensor, batch: Batch, names: Mapping[int, str]) -> Columns:
    """Return the correct words of each sample, their number and their cross-entropy, and its entities by type."""
    labels = batch["labels"]
    known = labels != IGNORED_LABEL
    predicted = log_probabilities.argmax(-1)
    losses = -log_probabilities.gather(-1, labels.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    types = entity_types(names)
    rows = zip(predicted, labels, known, strict=True)
    counts = [_entities(row[mask].tolist(), gold[mask].tolist(), names, types) for row, gold, mask in rows]
    return {
        "correct": ((predicted == labels) & known).sum(1).double(),
        "counts": known.sum(1).double(),
        "loss": losses.where(known, 0.0).sum(1),
        "entities": torch.stack(counts),
    }


def scores(found: Columns, names: Mapping[int, str]) -> dict[str, Score]:
    """Return F1 over the entities of all types."""
    return {"entity_f1": Score(found["entities"].sum(1).unbind(1), f1)}


def agreement(log_probabilities: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return the tokens of each sample for which both models predict one class, and the divergence in nats."""
    mask = batch["attention_mask"].bool()
    same = (log_probabilities.argmax(-1) == others.argmax(-1)) & mask
    losses = divergence(log_probabilities, others).where(mask, 0.0)
    return {"correct": same.sum(1).double(), "counts": mask.sum(1).double(), "loss": losses.sum(1)}


def reports(found: Columns, names: Mapping[int, str]) -> dict[str, ClassReport]:
    """Return precision, recall and F1 of the entities of each type."""
    return class_reports(found["entities"].sum(0), dict(enumerate(entity_types(names))))


def entity_types(names: Mapping[int, str]) -> list[str]:
    """Return the types of entities that classes stand for."""
    tags = [names[index] for index in sorted(names)]
    has_scheme = uses_positions(tags)
    return list(dict.fromkeys(_split(tag, has_scheme)[1] for tag in tags if tag != OUTSIDE))


def uses_positions(tags: Sequence[str]) -> bool:
    """Return whether tags tell the position of a word in its entity, as B-PER and I-PER do, or bare B, I and O."""
    if any(tag[:2] in ("B-", "I-") for tag in tags):
        return True
    bare = set(tags)
    return INSIDE in bare and not bare.isdisjoint({"B", OUTSIDE}) and bare <= BEGIN | END | {INSIDE, OUTSIDE}


def spans(tags: Sequence[str], has_scheme: bool = True) -> Iterator[Span]:
    """Yield the entities of a sentence. An entity begins with B, or where another type or nothing was before.

    Args:
        tags: one tag for each word.
        has_scheme: whether tags tell positions; otherwise each word that is not outside is an entity.
    """
    start, kind, previous = None, "", OUTSIDE
    for index, tag in enumerate([*tags, OUTSIDE]):
        position, found = (OUTSIDE, "") if tag == OUTSIDE else _split(tag, has_scheme)
        if start is not None and (position in BEGIN or position == OUTSIDE or found != kind or previous in END):
            yield kind, start, index
            start = None
        if position != OUTSIDE and start is None:
            start, kind = index, found
        previous = position


def _split(tag: str, has_scheme: bool) -> tuple[str, str]:
    """Return the position of a tag in its entity, and the type of the entity."""
    if not has_scheme:
        return "S", tag
    position, _, kind = tag.partition("-")
    return position, kind or "_"


def _entities(predicted: Sequence[int], labels: Sequence[int], names: Mapping[int, str], types: list[str]) -> Tensor:
    """Return the number of correct, predicted and labeled entities of each type [type, 3] in a sentence."""
    has_scheme = uses_positions(list(names.values()))
    found, gold = ({*spans([names.get(index, str(index)) for index in row], has_scheme)} for row in (predicted, labels))
    counts = torch.zeros(max(1, len(types)), 3, dtype=torch.float64)
    for column, group in enumerate((found & gold, found, gold)):
        for kind, _, _ in group:
            counts[types.index(kind), column] += 1
    return counts


ENTITIES = LabeledKind(answers, mean_of_log_probabilities, agreement, columns, scores, reports)
