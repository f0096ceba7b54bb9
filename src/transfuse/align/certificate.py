"""Whether an alignment kept a model's function: its answers before and after."""

import torch
from transformers import PreTrainedModel

from transfuse.batch import Batch
from transfuse.errors import CheckpointError
from transfuse.lazy import Tensors
from transfuse.network.model import example_inputs, has_scores, predict, with_tensors


@torch.no_grad()
def deviation(
    source: PreTrainedModel, anchor: PreTrainedModel, carried: Tensors, batch: Batch | None = None
) -> float | None:
    """The largest difference of a logit, relative to the largest logit: about the precision where nothing is lost.

    Args:
        anchor: gives the architecture.
        batch: samples to ask about; None: random ones.

    Returns:
        None for models without a head, whose answers are written in their own basis, and where nothing is asked.

    Raises:
        CheckpointError: one of them gives no numbers.
    """
    if not has_scores(source):
        return None
    batch = batch or example_inputs(source.config)
    before, after = predict(source, batch), predict(with_tensors(anchor, carried), batch)
    if not before.numel():
        return None
    if not (before.isfinite().all() and after.isfinite().all()):
        raise CheckpointError(
            "a model answers with NaN or infinity: its weights are out of range; no fusion can be used"
        )
    return float((after - before).abs().max() / before.abs().max().clamp_min(1e-12))
