"""Models of images and texts: retrieval in both directions, and the contrastive loss (Radford et al., 2021)."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.evaluation.kind import Columns, Kind, outputs
from transfuse.evaluation.metrics import Score, ratio
from transfuse.evaluation.row_blocks import row_blocks

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
    return {"correct": nothing, "counts": torch.ones_like(nothing), "loss": nothing, "embeddings": embeddings}


def whole(found: Columns) -> Columns:
    """Return whether the text of each image is ranked first, the contrastive loss over all samples, and all recalls."""
    images, texts = found["embeddings"].unbind(1)
    blocks = list(row_blocks(len(images)))
    tolerance = TIE * max(float((images[block] @ texts.T).abs().max()) for block in blocks)
    losses, ranks = {}, {}
    for name, queries, candidates in (("image", images, texts), ("text", texts, images)):
        parts = [_loss_and_rank(queries[block] @ candidates.T, block, tolerance) for block in blocks]
        losses[name], ranks[name] = map(torch.cat, zip(*parts, strict=True))
    recalls = {f"{name}_recall_{k}": (rank < k).double() for name, rank in ranks.items() for k in RECALLS}
    correct = (recalls["image_recall_1"] + recalls["text_recall_1"]) / 2
    return {"correct": correct, "counts": found["counts"], "loss": (losses["image"] + losses["text"]) / 2} | recalls


def scores(found: Columns, names: Mapping[int, str]) -> dict[str, Score]:
    """Return the recalls of texts for images and of images for texts."""
    recalls = {name: values for name, values in found.items() if "_recall_" in name}
    return {name: Score((values, found["counts"]), ratio) for name, values in recalls.items()}


def agreement(embeddings: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return the squared difference of the logit of each pair."""
    difference = ((embeddings[:, 0] * embeddings[:, 1]).sum(1) - (others[:, 0] * others[:, 1]).sum(1)).square()
    nothing = torch.full_like(difference, torch.nan)
    return {"correct": nothing, "counts": torch.ones_like(difference), "loss": difference}


def _loss_and_rank(
    logits: Float[Tensor, "query candidate"], block: slice, tolerance: float
) -> tuple[Float[Tensor, " query"], Float[Tensor, " query"]]:
    """Return the cross-entropy of each query, and how many candidates score higher than the right one.

    Those that score the same count half.

    Args:
        block: the numbers of the queries, which are those of the right candidates.
        tolerance: the largest difference of equal scores.
    """
    targets = torch.arange(logits.shape[1])[block]
    right = logits.gather(1, targets.unsqueeze(1))
    higher = (logits > right + tolerance).sum(1)
    equal = ((logits - right).abs() <= tolerance).sum(1) - 1
    return cross_entropy(logits, targets, reduction="none"), higher + equal / 2


PAIRS = Kind(answers, mean, columns, scores, agreement, whole=whole)
