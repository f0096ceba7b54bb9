"""Muon: gradient descent whose steps are equally large in all singular directions of a matrix.

Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the step size of Liu et
al. (2502.16982) without their factor of 0.2. `torch.optim.Muon` always multiplies in bfloat16. On CPUs that emulate
bfloat16 this takes 11 to 27 times as long as float32 (docs/log.md). This version multiplies in bfloat16 only where the
device does so natively.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from transfuse.network.precision import mixed_precision

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Jordan et al.'s quintic: steepest at zero, and bounded
STACKED = 2**20  # numbers in small matrices of one shape that are multiplied together


class Muon(Optimizer):
    """Optimize matrices along their orthogonalized momentum. The root mean square of a step is about `lr`."""

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.01})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient. `closure` is ignored."""
        by_shape: dict[torch.Size, list[tuple[Tensor, float]]] = {}
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    step = group["lr"] * max(matrix.shape) ** 0.5
                    by_shape.setdefault(matrix.shape, []).append((matrix, step))
        for shape, matrices in by_shape.items():
            count = max(1, STACKED // shape.numel())
            for start in range(0, len(matrices), count):
                self._step_together(matrices[start : start + count])

    def _step_together(self, matrices: Sequence[tuple[Tensor, float]]) -> None:
        """Update matrices of one shape, given the sizes of their steps."""
        momenta = torch.stack([self._momentum(matrix) for matrix, _ in matrices])
        with mixed_precision(momenta.device):
            directions = orthogonalize(momenta)
        for (matrix, step), direction in zip(matrices, directions, strict=True):
            matrix.add_(direction, alpha=-step)

    def _momentum(self, matrix: Tensor) -> Tensor:
        """Return the momentum with the gradient ahead of it (Nesterov)."""
        gradient = matrix.grad
        assert gradient is not None
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)


def orthogonalize(matrices: Float[Tensor, "*batch row column"]) -> Float[Tensor, "*batch row column"]:
    """Return an approximation of U V^T, where U S V^T is the singular value decomposition of a matrix.

    The singular values of the result are between about 0.7 and 1.2 instead of 1. The approximation is a Newton-Schulz
    iteration with a quintic polynomial.
    """
    rows, columns = matrices.shape[-2:]
    if rows > columns:
        return orthogonalize(matrices.mT).mT
    norms = torch.linalg.matrix_norm(matrices, keepdim=True)
    iterate = matrices / norms.clamp(min=torch.finfo(matrices.dtype).tiny)
    linear, cubic, quintic = COEFFICIENTS
    for _ in range(ITERATIONS):
        squares = iterate @ iterate.mT
        iterate = linear * iterate + (cubic * squares + quintic * squares @ squares) @ iterate
    return iterate
