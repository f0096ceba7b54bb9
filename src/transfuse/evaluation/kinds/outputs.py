"""Models without a head: the cosine between their outputs and those of another model in the same basis.

Outputs in two bases cannot be compared so. What does not depend on the basis is how similar the outputs for two samples
are, which is what embeddings are used for.
"""

from collections.abc import Iterable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize
from transformers import PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.counted import are, counted
from transfuse.data.text.pooling import POOLED
from transfuse.errors import DataError
from transfuse.evaluation.kind import Columns, Kind, all_columns, arithmetic_mean, outputs, without_bins
from transfuse.evaluation.metrics import Predictions, Score, ratio
from transfuse.evaluation.row_blocks import row_blocks
from transfuse.network.outputs import EMBEDDING_NAMES

MIN_SAMPLES = 4  # with fewer, each has less than three others to be similar to


def answers(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return the embedding of each sample [sample, unit]: that of the model, or the mean of its last states.

    With `labels_pooled` in the batch, the mean is that of the tokens that it names.
    """
    found = outputs(model, batch)
    for name in EMBEDDING_NAMES:
        if name in found:
            return found[name].double()
    states = found["last_hidden_state"].double()
    pooled = batch.get(POOLED, batch.get("attention_mask"))
    if pooled is None:
        return states.mean(1)
    mask = pooled.to(states).unsqueeze(-1)
    return (states * mask).sum(1) / mask.sum(1).clamp_min(1)


def agreement(embeddings: Tensor, others: Tensor, batch: Batch) -> Columns:
    """Return the cosine between both embeddings of each sample, and its distance from 1 as the loss."""
    cosine = (normalize(embeddings, dim=1) * normalize(others, dim=1)).sum(1)
    nothing = torch.full_like(cosine, torch.nan)
    return {"correct": nothing, "counts": torch.ones_like(cosine), "loss": 1 - cosine, "cosine": cosine}


def predict_similarity(
    models: tuple[PreTrainedModel, PreTrainedModel], batches: tuple[Iterable[Batch], Iterable[Batch]]
) -> Predictions:
    """Return how alike two models judge the similarity of samples, whatever their bases and widths.

    For each sample, this is the correlation of its cosines with all other samples between the two models.

    Args:
        batches: the same samples, prepared for each model.

    Raises:
        DataError: there are too few samples.
    """
    first, second = (
        normalize(all_columns(partial(_embedded, model), [model], own)["embedding"], dim=1)
        for model, own in zip(models, batches, strict=True)
    )
    if (count := len(first)) < MIN_SAMPLES:
        raise DataError(
            f"nothing to measure: {counted(count, 'sample')} {are(count)} too few; give {MIN_SAMPLES} or more"
        )
    unknown = (first.isnan().any(1) | second.isnan().any(1)).unsqueeze(1)
    first, second = (units.masked_fill(unknown, 0.0) for units in (first, second))
    rows = row_blocks(count)
    correlation = torch.cat([_correlation(_profiles(first, block), _profiles(second, block)) for block in rows])
    correlation = correlation.masked_fill(unknown[:, 0], torch.nan)
    nothing = torch.full_like(correlation, torch.nan)
    counts = torch.ones_like(correlation)
    sums = {"correct": nothing, "counts": counts, "loss": 1 - correlation}
    return without_bins(sums, {"similarity": Score((correlation, counts), ratio)})


def _embedded(model: PreTrainedModel, batch: Batch) -> Columns:
    """Return the embedding of each sample."""
    embeddings = answers(model, batch).cpu()
    nothing = embeddings.new_full((len(embeddings),), torch.nan)
    return {"correct": nothing, "counts": torch.ones_like(nothing), "loss": nothing, "embedding": embeddings}


def _profiles(units: Float[Tensor, "sample unit"], block: slice) -> Float[Tensor, "row sample"]:
    """Return the cosine of each sample of a block with all others, minus their mean; 0 with the sample itself.

    Args:
        units: embeddings of length 1.
    """
    own = torch.arange(len(units))[block].unsqueeze(1)
    cosines = (units[block] @ units.T).scatter_(1, own, 0.0)
    return cosines.sub_(cosines.sum(1, keepdim=True) / (len(units) - 1)).scatter_(1, own, 0.0)


def _correlation(first: Tensor, second: Tensor) -> Float[Tensor, " row"]:
    """Return the correlation of each profile with that of the other model, 0 if one is constant."""
    scale = first.norm(dim=1) * second.norm(dim=1)
    return (first * second).sum(1) / scale.where(scale > 0, 1.0)


OUTPUTS = Kind(answers, arithmetic_mean, agreement)
