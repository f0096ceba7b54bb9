"""Models of images and texts: retrieval in both directions, and the contrastive loss (Radford et al., 2021).

SigLIP was trained with a sigmoid of each pair instead. It is measured by the same loss, in which its bias cancels.

An image with several texts is in as many rows, as is a text with several images. Each counts once among the candidates,
and all of its partners are right answers.
"""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.evaluation.kind import Columns, LabeledKind, outputs
from transfuse.evaluation.metrics import Score, ratio
from transfuse.evaluation.row_blocks import row_blocks
from transfuse.evaluation.unknown import without_unknown

RECALLS = (1, 5)
TIE = 1e-5  # difference of equal scores, relative to the largest; equal texts of two batches differ by rounding


def answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the embeddings of the image and of the text [sample, 2, unit], whose product is the logit of a pair."""
    found = outputs(model, batch)
    both = torch.stack([normalize(found[name].double(), dim=-1) for name in ("image_embeds", "text_embeds")], 1)
    scale = getattr(model, "logit_scale", torch.zeros(())).detach().double().exp().to(both)
    return both * scale.sqrt()


def mean(embeddings: Sequence[Tensor]) -> Tensor:
    """Return embeddings whose products are the means of the models' logits."""
    return torch.cat([values / len(embeddings) ** 0.5 for values in embeddings], -1)


def columns(embeddings: Tensor, batch: Batch, names: Mapping[int, str]) -> Columns:
    """Return the embeddings of each sample; `whole` compares them with those of all others."""
    nothing = embeddings.new_zeros(len(embeddings))
    sums = {"correct": nothing, "counts": torch.ones_like(nothing), "loss": nothing}
    return sums | {"embeddings": embeddings, "contents": _contents(batch)}


def whole(found: Columns) -> Columns:
    """Return whether the text of each image is ranked first, the contrastive loss over all samples, and all recalls."""
    unknown = found["embeddings"].isnan().flatten(1).any(1)
    images, texts = found["embeddings"].nan_to_num(0.0).unbind(1)
    image_ids, text_ids = (column.unique(return_inverse=True)[1] for column in found["contents"].unbind(1))
    blocks = list(row_blocks(len(images)))
    tolerance = TIE * max(float((images[block] @ texts.T).abs().max()) for block in blocks)
    sides = {"image": (images, image_ids, texts, text_ids), "text": (texts, text_ids, images, image_ids)}
    losses: dict[str, Tensor] = {}
    recalls: dict[str, Tensor] = {}
    for name, (queries, ids, candidates, candidate_ids) in sides.items():
        first = _first_rows(candidate_ids)
        parts = []
        for block in blocks:
            logits = queries[block] @ candidates.T
            targets = torch.arange(len(queries))[block]
            loss = cross_entropy(logits, targets, reduction="none")
            right = _right(ids[block], ids, candidate_ids)
            parts.append([loss, *(_recall(logits[:, first], right, k, tolerance) for k in RECALLS)])
        losses[name], *values = map(torch.cat, zip(*parts, strict=True))
        recalls |= {f"{name}_recall_{k}": value for k, value in zip(RECALLS, values, strict=True)}
    correct = (recalls["image_recall_1"] + recalls["text_recall_1"]) / 2
    loss = ((losses["image"] + losses["text"]) / 2).masked_fill(unknown, torch.nan)
    return without_unknown({"correct": correct, "counts": found["counts"], "loss": loss} | recalls)


def scores(found: Columns, names: Mapping[int, str]) -> dict[str, Score]:
    """Return the recalls of texts for images and of images for texts."""
    recalls = {name: values for name, values in found.items() if "_recall_" in name}
    return {name: Score((values, found["counts"]), ratio) for name, values in recalls.items()}


def agreement(embeddings: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return the squared difference of the logit of each pair."""
    difference = ((embeddings[:, 0] * embeddings[:, 1]).sum(1) - (others[:, 0] * others[:, 1]).sum(1)).square()
    nothing = torch.full_like(difference, torch.nan)
    return {"correct": nothing, "counts": torch.ones_like(difference), "loss": difference}


def _contents(batch: Batch) -> Int[Tensor, "sample 2"]:
    """Return a number for each image and one for each text, which is the same for equal ones."""
    masks = batch["attention_mask"].bool()
    texts = [ids[mask] for ids, mask in zip(batch["input_ids"], masks, strict=True)]
    rows = zip(batch["pixel_values"], texts, strict=True)
    return torch.tensor([[_digest(image), _digest(text)] for image, text in rows])


def _digest(values: Tensor) -> int:
    content = values.flatten().view(torch.uint8).numpy().tobytes()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big", signed=True)


def _first_rows(ids: Int[Tensor, " row"]) -> Int[Tensor, " candidate"]:
    """Return the first row of each candidate, given the number of the candidate in each row."""
    rows = torch.full((int(ids.max()) + 1,), len(ids))
    return rows.scatter_reduce(0, ids, torch.arange(len(ids)), "amin")


def _right(
    queries: Int[Tensor, " query"], ids: Int[Tensor, " row"], candidates: Int[Tensor, " row"]
) -> Bool[Tensor, "query candidate"]:
    """Return whether a candidate is in a row with the query.

    Args:
        queries: the number of each query.
        ids: the number of the query in each row.
        candidates: the number of the candidate in each row.
    """
    together = (queries.unsqueeze(1) == ids).float()
    return together.new_zeros(len(queries), int(candidates.max()) + 1).index_add_(1, candidates, together) > 0


def _recall(
    scores: Float[Tensor, "query candidate"], right: Bool[Tensor, "query candidate"], k: int, tolerance: float
) -> Float[Tensor, " query"]:
    """Return the probability that one of the first k candidates is right, with those of equal scores in random order.

    It is NaN if the score of a right candidate is.

    Args:
        tolerance: the largest difference of equal scores.
    """
    best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    higher = (scores > best + tolerance).sum(1)
    equal = (scores - best).abs() <= tolerance
    total, wrong = equal.sum(1), (equal & ~right).sum(1)
    missed = torch.ones_like(best[:, 0])
    for drawn in range(k):  # from those of equal scores, if there is a place left for them
        share = (wrong - drawn).clamp_min(0) / (total - drawn).clamp_min(1)
        missed = missed * share.where(higher + drawn < k, 1.0)
    return (1 - missed).where(~best[:, 0].isnan(), torch.nan)


PAIRS = LabeledKind(answers, mean, agreement, columns, scores, whole=whole)
