"""The precision in which models run while layers are fitted.

Large products take half of the time in bfloat16, or less, where the hardware has instructions for it. Its rounding is
like noise of a few thousandths on the inputs and targets of a layer, which many rows average out. Moments and solutions
keep their precision. A mean that already computes what a parent computes has nothing to gain but rounding to lose.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from transfuse.base.batch import Batch, first_samples, without_labels
from transfuse.merging.fitting.layer_groups import Stage, widest_input
from transfuse.network.outputs import model_output

MIN_UNITS = 512  # units that the widest layer reads; products of narrower layers do not become faster
MIN_DIFFERENCE = 0.03  # of outputs, relative to their size; rounding to bfloat16 changes them by less


@torch.no_grad()
def suits_mixed_precision(
    fused: PreTrainedModel, parents: Sequence[PreTrainedModel], todo: Sequence[Stage], batches: Sequence[Batch]
) -> bool:
    """Return whether layers are wide enough, and the mean is far enough from every parent, for mixed precision.

    A parent whose outputs have another shape, such as a larger model without a head, counts as far.
    """
    if widest_input(todo) < MIN_UNITS:
        return False
    (sample,) = map(without_labels, first_samples(batches, 1))
    output = model_output(fused, sample).double()
    for parent in parents:
        expected = model_output(parent, sample).double()
        if output.shape == expected.shape and (output - expected).norm() < MIN_DIFFERENCE * expected.norm():
            return False
    return True
