"""Which of many units explain a target best together, from second moments alone."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.merge.sums import Sums

RIDGE = 1e-3  # relative to the inputs' mean square


def forward_selection(
    found: Sums, units: Int[Tensor, "unit entry"], count: int, given: Int[Tensor, " entry"]
) -> list[int]:
    """`count` units, each the one that takes most of the error that those before it left (orthogonal least squares,
    Chen, Billings & Luo 1989, by groups of columns).

    Args:
        units: which inputs belong to each.
        given: inputs that are there in any case.
    """
    inputs, cross = found.inputs.clone(), found.cross.clone()
    inputs.diagonal().add_(RIDGE * inputs.diagonal().mean())
    inputs, cross = _without(inputs, cross, given)
    free = torch.ones(len(units), dtype=torch.bool, device=inputs.device)
    chosen: list[int] = []
    for _ in range(count):
        own = inputs[units.unsqueeze(2), units.unsqueeze(1)]  # [unit, entry, entry]
        seen = cross[units]
        gains = (seen * torch.linalg.solve(own, seen)).sum((1, 2)) if units.shape[1] > 1 else (
            seen.square().sum(2) / own[:, 0]
        ).squeeze(1)  # fmt: skip
        best = int(gains.where(free, -1.0).argmax())
        free[best] = False
        chosen.append(best)
        inputs, cross = _without(inputs, cross, units[best])
    return chosen


def _without(
    inputs: Float[Tensor, "reads reads"], cross: Float[Tensor, "reads writes"], pivot: Int[Tensor, " entry"]
) -> tuple[Float[Tensor, "reads reads"], Float[Tensor, "reads writes"]]:
    """What is left of the moments once these inputs have explained what they can; theirs become the identity."""
    if not len(pivot):
        return inputs, cross
    columns = inputs[:, pivot]
    solved = torch.linalg.solve(inputs[pivot][:, pivot], torch.cat([columns.T, cross[pivot]], 1))
    inputs, cross = inputs - columns @ solved[:, : len(inputs)], cross - columns @ solved[:, len(inputs) :]
    inputs[pivot, pivot] = 1.0
    return inputs, cross
