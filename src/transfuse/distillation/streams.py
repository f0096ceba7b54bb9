"""What the blocks of several models write into the residual stream, as rows without padding."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from transfuse.base.batch import Batch, row_positions, token_mask
from transfuse.distillation.teacher_weighting import Shares, weighted_rows

NEGLIGIBLE = 1e-6  # variance of a target relative to its square, below which only its square counts


def relative_error(output: Float[Tensor, "row unit"], target: Float[Tensor, "row unit"]) -> Float[Tensor, ""]:
    """Return the squared error divided by the variance of the target, or by its square if all rows are alike.

    The target may be stored in a lower precision than the output.
    """
    target = target.to(output.dtype)
    variance, square = (target - target.mean(0)).square().sum(), target.square().sum()
    scale = torch.where(variance > NEGLIGIBLE * square, variance, square)
    return (output - target).square().sum() / scale.clamp_min(torch.finfo(scale.dtype).tiny)


def mean_rows(outputs: Sequence[Tensor], shares: Shares, batch: Batch, block: str) -> Float[Tensor, "row unit"]:
    """Return the mean of the parents' outputs of one block, weighted sample by sample, without rows of padding.

    Args:
        block: the name of the block.
    """
    samples, _ = row_positions(outputs[0], batch, block)
    samples = samples[_unpadded(outputs[0], batch, block)]
    return weighted_rows(shares[:, samples], [unpadded_rows(output, batch, block) for output in outputs])


def unpadded_rows(values: Float[Tensor, "*samples unit"], batch: Batch, block: str) -> Float[Tensor, "row unit"]:
    """Return the output of a block as rows, without those of padding."""
    return values.flatten(0, -2)[_unpadded(values, batch, block)]


def _unpadded(values: Float[Tensor, "*samples unit"], batch: Batch, block: str) -> slice | Bool[Tensor, " row"]:
    """Return an index of the rows that are not padding."""
    mask = token_mask(batch, block, values.shape) if values.ndim == 3 else None
    return slice(None) if mask is None else mask.flatten().bool()
