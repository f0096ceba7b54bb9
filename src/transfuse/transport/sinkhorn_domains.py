"""Sinkhorn's iterations on a kernel and on logarithms, and Newton's method, all on potentials in float64."""

from abc import ABC, abstractmethod
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

MAX_EXPONENT = {torch.float32: 60.0, torch.float64: 600.0}  # of a kernel's entries: smaller ones would be denormal
ABSORPTION_THRESHOLD = 10.0  # logarithm of a factor from which the kernel absorbs it
NEGLIGIBLE = 1e-12  # relative, for Newton's method

CostMatrix = Float[Tensor, "source target"]
Vector = Float[Tensor, " unit"]
Potentials = tuple[Vector, Vector]  # of the source and of the target, in units of the cost


class Iteration(ABC):
    """One of Sinkhorn's iterations, on the potentials of the target divided by the regularization."""

    accelerated = True

    def __init__(self, cost: CostMatrix, regularization: float, start: Potentials | None) -> None:
        self.cost = cost
        self.regularization = regularization
        if start is None:
            self.source = cost.amin(1).double() / regularization
            self.target = torch.zeros(cost.shape[1], dtype=torch.float64, device=cost.device)
        else:
            self.source, self.target = (potential.double() / regularization for potential in start)

    @abstractmethod
    def step(self, target: Vector) -> tuple[Vector, float]:
        """Return the next potentials and the error of the marginals with `target`; set `source` to match `target`."""

    @abstractmethod
    def plan(self, target: Vector) -> CostMatrix:
        """Return the plan of the potentials `source` and `target`."""


class Kernel(Iteration):
    """Iterations on the kernel exp((source + target - cost) / regularization), with factors near one.

    The kernel contains the potentials that it has absorbed, and the factors contain the rest.
    """

    def __init__(self, cost: CostMatrix, regularization: float, start: Potentials | None) -> None:
        super().__init__(cost, regularization, start)
        self.kernel = torch.empty_like(cost)
        self._absorb(self.source, self.target)

    def _absorb(self, source: Vector, target: Vector) -> None:
        self.absorbed = (source, target)
        bound = MAX_EXPONENT[self.cost.dtype]
        rows = source.to(self.cost)
        columns = target.to(self.cost)
        torch.add(rows.unsqueeze(1), self.cost, alpha=-1 / self.regularization, out=self.kernel)
        if columns.any():
            self.kernel.add_(columns)
        self.kernel.clamp_(-bound, bound).exp_()

    def step(self, target: Vector) -> tuple[Vector, float]:
        if _must_absorb(target, self.absorbed[1]):
            self._absorb(self.source, target)
        rows, columns = self.kernel.shape
        factors = (target - self.absorbed[1]).exp().to(self.kernel)
        self.source = self.absorbed[0] + log(columns) - (self.kernel @ factors).double().log()
        if _must_absorb(self.source, self.absorbed[0]):
            self._absorb(self.source, target)
        sums = ((self.source - self.absorbed[0]).exp().to(self.kernel) @ self.kernel).double().log()
        new_target = self.absorbed[1] + log(rows) - sums
        return new_target, _error(target, new_target)

    def plan(self, target: Vector) -> CostMatrix:
        rows = (self.source - self.absorbed[0]).exp()
        columns = (target - self.absorbed[1]).exp()
        plan = self.kernel.mul_((rows / self.kernel.numel()).to(self.kernel).unsqueeze(1))
        return plan.mul_(columns.to(plan))


class Logarithms(Iteration):
    """Iterations on logarithms, which are slower but cannot underflow."""

    def step(self, target: Vector) -> tuple[Vector, float]:
        rows, columns = self.cost.shape
        scores = self.cost / -self.regularization
        self.source = log(columns) - (scores + target).logsumexp(1)
        new_target = log(rows) - (scores + self.source.unsqueeze(1)).logsumexp(0)
        return new_target, _error(target, new_target)

    def plan(self, target: Vector) -> CostMatrix:
        plan = (self.cost / -self.regularization + self.source.unsqueeze(1) + target).exp()
        return plan / plan.sum()


class Newton(Logarithms):
    """Newton's method on the target's potentials, for plans near a permutation, where the other iterations stall."""

    accelerated = False

    def step(self, target: Vector) -> tuple[Vector, float]:
        _, error = super().step(target)
        plan = (self.cost / -self.regularization + self.source.unsqueeze(1) + target).exp() / self.cost.numel()
        sums = plan.sum(0)
        hessian = torch.diag(sums) - len(plan) * plan.T @ plan  # of the semi-dual; singular along constants
        hessian += sums.mean() / len(sums) + torch.diag(torch.full_like(sums, NEGLIGIBLE * float(sums.mean())))
        move = torch.linalg.solve(hessian, 1 / len(sums) - sums)
        new_target = target + move
        while not super().step(new_target)[1] < error and move.abs().max() > NEGLIGIBLE:
            move = move / 2
            new_target = target + move
        return new_target, super().step(target)[1]


DOMAINS: dict[str, tuple[type[Iteration], torch.dtype]] = {
    "float32": (Kernel, torch.float32),
    "float64": (Kernel, torch.float64),
    "log": (Logarithms, torch.float64),
    "newton": (Newton, torch.float64),
}


def _must_absorb(potential: Vector, absorbed: Vector) -> bool:
    return float((potential - absorbed).abs().max()) > ABSORPTION_THRESHOLD


def _error(target: Vector, new_target: Vector) -> float:
    """Return the L1 error of the target's marginal; the source's marginal is exact."""
    return float(((target - new_target).exp() - 1).abs().mean())
