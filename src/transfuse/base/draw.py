"""Random draws of classes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

MAX_SLICE = 2**24  # largest number of probabilities that classes are drawn from at once


def draw_classes(probabilities: Float[Tensor, "answer cls"], generator: torch.Generator) -> Int[Tensor, " answer"]:
    """Return a random class for each answer, by the inverse of the cumulative distribution, on the same device.

    Args:
        generator: a generator on the CPU, so that all devices draw alike.
    """
    uniform = torch.rand(len(probabilities), 1, generator=generator).to(probabilities.device)
    rows = max(1, MAX_SLICE // probabilities.shape[1])
    drawn = []
    for part, draw in zip(probabilities.split(rows), uniform.split(rows), strict=True):
        cumulative = part.cumsum(-1)
        drawn.append(torch.searchsorted(cumulative, draw * cumulative[:, -1:], right=True).squeeze(1))
    return torch.cat(drawn).clamp_max_(probabilities.shape[1] - 1)
