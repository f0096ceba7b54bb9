"""What the blocks of several models write into the residual stream, as rows without padding."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from transfuse.base.batch import Batch, row_positions
from transfuse.distillation.teacher_weighting import Shares, weighted_rows


def relative_error(output: Float[Tensor, "row unit"], target: Float[Tensor, "row unit"]) -> Float[Tensor, ""]:
    """Return the squared error divided by the variance of the target."""
    return (output - target).square().sum() / (target - target.mean(0)).square().sum()


def mean_rows(outputs: Sequence[Tensor], shares: Shares, batch: Batch) -> Float[Tensor, "row unit"]:
    """Return the mean of the parents' outputs of one block, weighted sample by sample."""
    samples, _ = row_positions(outputs[0], batch)
    samples = samples[_unpadded(outputs[0], batch)]
    return weighted_rows(shares[:, samples], [unpadded_rows(output, batch) for output in outputs])


def unpadded_rows(values: Float[Tensor, "*samples unit"], batch: Batch) -> Float[Tensor, "row unit"]:
    """Return the values as rows, without those of padding."""
    return values.flatten(0, -2)[_unpadded(values, batch)]


def _unpadded(values: Float[Tensor, "*samples unit"], batch: Batch) -> slice | Bool[Tensor, " row"]:
    """Return an index of the rows that are not padding."""
    mask = batch.get("attention_mask")
    return mask.flatten().bool() if mask is not None and mask.shape == values.shape[:-1] else slice(None)
