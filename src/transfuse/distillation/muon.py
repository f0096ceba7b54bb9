"""Muon: descent that moves a matrix alike in all directions, the strong and the weak ones of its gradient.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the scale of Liu et al.
(2502.16982), without their 0.2. `torch.optim.Muon` multiplies in bfloat16 whatever the matrices are in, which takes
CPUs that emulate it 11 to 27 times as long as float32 does (docs/log.md); so this stands here.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steepest at zero, and bounded


class Muon(Optimizer):
    """Steps along the momentum made orthogonal, whose root mean square is `lr`; of matrices only."""

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    state = self.state[matrix]
                    if not state:
                        state["momentum"] = torch.zeros_like(matrix)
                    momentum = state["momentum"]
                    momentum.lerp_(matrix.grad, 1 - MOMENTUM)
                    direction = orthogonal(matrix.grad.lerp(momentum, MOMENTUM))
                    matrix.add_(direction, alpha=-group["lr"] * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    """U V^T of U S V^T, but for singular values of about 0.7 to 1.2 in place of 1: what a few products come to."""
    if len(matrix) > len(matrix.T):
        return orthogonal(matrix.T).T
    found = matrix / matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        squares = found @ found.T
        found = a * found + (b * squares + c * squares @ squares) @ found
    return found
