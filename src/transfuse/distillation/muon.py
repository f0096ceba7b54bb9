"""Muon: gradient descent whose steps are equally large in all singular directions of a matrix.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the step size of Liu et
al. (2502.16982) without their factor of 0.2. `torch.optim.Muon` always multiplies in bfloat16. On CPUs that emulate
bfloat16 this takes 11 to 27 times as long as float32 (docs/log.md). This version keeps the dtype of the matrix.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan et al.'s quintic: steepest at zero, and bounded


class Muon(Optimizer):
    """Optimize matrices along their orthogonalized momentum. The root mean square of a step is about `lr`."""

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient. `closure` is ignored."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"]
                momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                direction = orthogonalize(matrix.grad.lerp(momentum, MOMENTUM))
                matrix.add_(direction, alpha=-group["lr"] * max(matrix.shape) ** 0.5)


def orthogonalize(matrix: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    """Return an approximation of U V^T, where U S V^T is the singular value decomposition of `matrix`.

    The singular values of the result are between about 0.7 and 1.2 instead of 1. The approximation is a Newton-Schulz
    iteration with a quintic polynomial.
    """
    if len(matrix) > len(matrix.T):
        return orthogonalize(matrix.T).T
    iterate = matrix / matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(ITERATIONS):
        squares = iterate @ iterate.T
        iterate = linear * iterate + (cubic * squares + quintic * squares @ squares) @ iterate
    return iterate
