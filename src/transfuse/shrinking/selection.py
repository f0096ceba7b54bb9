"""Selection of units by what they explain, with the smallest penalty that rounding allows."""

import torch
from jaxtyping import Int
from torch import Tensor

from transfuse.merging.gram import GramMatrix
from transfuse.merging.unit_selection import forward_selection

RIDGES = (1e-6, 1e-4, 1e-2)  # relative to the mean square; a small one does not prefer a repeated unit to a weak one


def chosen_units(
    moments: GramMatrix, units: Int[Tensor, "unit entry"], count: int, with_bias: bool = True
) -> Int[Tensor, " chosen"]:
    """Return the units from which the targets of the moments are explained best, in their own order.

    Args:
        units: the inputs that belong to each unit.
        with_bias: whether a bias, the last input of the moments, explains a part as well.
    """
    bias = torch.tensor([len(moments.inputs) - 1] if with_bias else [], dtype=torch.long)
    for ridge in RIDGES:
        try:
            return torch.tensor(sorted(forward_selection(moments, units, count, bias, ridge, torch.float64)))
        except torch.linalg.LinAlgError:  # inputs that repeat each other are not told apart from rounding
            continue
    raise torch.linalg.LinAlgError("units cannot be told apart")
