"""Entropic transport (Cuturi, 2013): Sinkhorn's iterations on a kernel that has absorbed the potentials found so far,
with Anderson's acceleration (1965) of the potentials.

A kernel of one dtype is read twice an iteration, and nothing else is large. Float32 comes first; float64 where that
stalls before it is near enough; the logarithmic domain where a kernel says nothing. A small regularisation is reached
from a large one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import frexp, log

import torch
from jaxtyping import Float
from torch import Tensor

MEMORY = 8  # steps that an accelerated one looks back on
EXPONENTS = {torch.float32: 60.0, torch.float64: 600.0}  # below minus these are denormals: slow, and nothing
TOLERANCE = 2e-6  # L1 error of the marginals; float32 reaches no better one
ABSORBED = 10.0  # a factor's logarithm, from which it becomes part of the kernel
PATIENCE = 50  # iterations without a better one, after which it has stalled
WIDE = 0.1  # regularisation, relative to the mean cost above the least, from which it needs no way
SMALL = 1e-12  # relative: of a direction that changes nothing
STEP = 2.0  # by which the regularisation falls on the way to a smaller one
ROUGH = 1e-3  # error of the marginals on the way

Cost = Float[Tensor, "source target"]
Vector = Float[Tensor, " unit"]


@dataclass(frozen=True, eq=False)
class Coupling:
    """A plan between uniform marginals, and how it was found.

    Attributes:
        plan: sums to one.
        source, target: the potentials, in units of the cost.
        error: L1 error of the marginals.
        iterations: in all dtypes together.
        converged: whether the error is within the tolerance.
        domain: the dtype of the kernel, or `log`.
    """

    plan: Cost
    source: Vector
    target: Vector
    error: float
    iterations: int
    converged: bool
    domain: str = ""


def sinkhorn(
    cost: Cost,
    regularisation: float,
    start: Coupling | None = None,
    tolerance: float = TOLERANCE,
    limit: int = 2000,
    domain: str = "auto",
) -> Coupling:
    """The plan of least cost plus regularisation times relative entropy to the uniform plan.

    Args:
        regularisation: in units of the cost.
        start: of a problem that is much the same.
        tolerance: L1 error of the marginals.
        limit: most iterations in each domain.
        domain: float32, float64 or log; auto: one after the other, until one converges.

    Returns:
        The best that was found; look at `converged`.
    """
    unit = size(cost)  # costs of 1e-30 or 1e30 leave single precision on the way
    if start is not None:
        start = replace(start, source=start.source / unit, target=start.target / unit)
    found = _sinkhorn(cost / unit, regularisation / unit, start, tolerance, limit, domain)
    return replace(found, source=found.source * unit, target=found.target * unit)


def size(values: Tensor) -> float:
    """Return the power of two below the largest entry: dividing by it loses nothing; one where all are zero."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    return 2.0 ** (frexp(largest)[1] - 1) if largest else 1.0


def _sinkhorn(
    cost: Cost, regularisation: float, start: Coupling | None, tolerance: float, limit: int, domain: str
) -> Coupling:
    iterations = 0
    able = [name for name in DOMAINS if tolerance >= TOLERANCE or name != "float32"]
    for name in able if domain == "auto" else (domain,):
        kind, dtype = DOMAINS[name]
        if start is not None and not start.source.isfinite().all():
            start = None  # an overflow is nothing to go on from
        for near in _way(cost, regularisation) if start is None else (regularisation,):
            on_way = near > regularisation
            start = _iterate(kind(cost.to(dtype), near, start), max(ROUGH, tolerance) if on_way else tolerance, limit)
            iterations += start.iterations
        assert start is not None
        start = replace(start, iterations=iterations, domain=name)
        if start.converged:
            break
    assert start is not None
    return start


def _way(cost: Cost, regularisation: float) -> Iterator[float]:
    """From a large regularisation down to the wanted one."""
    near = WIDE * float(cost.mean() - cost.min())
    while near > STEP * regularisation:
        yield near
        near /= STEP
    yield regularisation


class _Iteration(ABC):
    """One of Sinkhorn's, on the target's potentials over the regularisation."""

    accelerated = True

    def __init__(self, cost: Cost, regularisation: float, start: Coupling | None) -> None:
        self.cost, self.regularisation = cost, regularisation
        if start is None:
            self.source = cost.amin(1).double() / regularisation
            self.target = torch.zeros(cost.shape[1], dtype=torch.float64, device=cost.device)
        else:
            self.source, self.target = (each.double() / regularisation for each in (start.source, start.target))

    @abstractmethod
    def step(self, target: Vector) -> tuple[Vector, float]:
        """The next ones, and the error of the marginals with these; `source` then goes with these."""

    @abstractmethod
    def plan(self, target: Vector) -> Cost:
        """Of these, and of `source`."""


class _Kernel(_Iteration):
    """On exp((source + target - cost) / regularisation) with potentials from before, and factors near one."""

    def __init__(self, cost: Cost, regularisation: float, start: Coupling | None) -> None:
        super().__init__(cost, regularisation, start)
        self.kernel = torch.empty_like(cost)
        self._absorb(self.source, self.target)

    def _absorb(self, source: Vector, target: Vector) -> None:
        self.absorbed, bound = (source, target), EXPONENTS[self.cost.dtype]
        rows, columns = source.to(self.cost), target.to(self.cost)
        torch.add(rows.unsqueeze(1), self.cost, alpha=-1 / self.regularisation, out=self.kernel)
        if columns.any():
            self.kernel.add_(columns)
        self.kernel.clamp_(-bound, bound).exp_()

    def step(self, target: Vector) -> tuple[Vector, float]:
        if _far(target, self.absorbed[1]):
            self._absorb(self.source, target)
        rows, columns = self.kernel.shape
        factors = (target - self.absorbed[1]).exp().to(self.kernel)
        self.source = self.absorbed[0] + log(columns) - (self.kernel @ factors).double().log()
        if _far(self.source, self.absorbed[0]):
            self._absorb(self.source, target)
        sums = ((self.source - self.absorbed[0]).exp().to(self.kernel) @ self.kernel).double().log()
        found = self.absorbed[1] + log(rows) - sums
        return found, _error(target, found)

    def plan(self, target: Vector) -> Cost:
        rows, columns = ((now - then).exp() for now, then in zip((self.source, target), self.absorbed, strict=True))
        plan = self.kernel.mul_((rows / self.kernel.numel()).to(self.kernel).unsqueeze(1))
        return plan.mul_(columns.to(plan))


class _Logarithms(_Iteration):
    """On logarithms alone: slower, and right for any regularisation."""

    def step(self, target: Vector) -> tuple[Vector, float]:
        rows, columns = self.cost.shape
        scores = self.cost / -self.regularisation
        self.source = log(columns) - (scores + target).logsumexp(1)
        found = log(rows) - (scores + self.source.unsqueeze(1)).logsumexp(0)
        return found, _error(target, found)

    def plan(self, target: Vector) -> Cost:
        plan = (self.cost / -self.regularisation + self.source.unsqueeze(1) + target).exp()
        return plan / plan.sum()


class _Newton(_Logarithms):
    """Newton's method on the target's potentials: where a plan is nearly a permutation, the others hardly move."""

    accelerated = False

    def step(self, target: Vector) -> tuple[Vector, float]:
        _, error = super().step(target)
        plan = (self.cost / -self.regularisation + self.source.unsqueeze(1) + target).exp() / self.cost.numel()
        sums = plan.sum(0)
        hessian = torch.diag(sums) - len(plan) * plan.T @ plan  # of the semi-dual; constants change nothing
        hessian += sums.mean() / len(sums) + torch.diag(torch.full_like(sums, SMALL * float(sums.mean())))
        move = torch.linalg.solve(hessian, 1 / len(sums) - sums)
        found = target + move
        while not super().step(found)[1] < error and move.abs().max() > SMALL:
            move = move / 2
            found = target + move
        return found, super().step(target)[1]


DOMAINS: dict[str, tuple[type[_Iteration], torch.dtype]] = {
    "float32": (_Kernel, torch.float32),
    "float64": (_Kernel, torch.float64),
    "log": (_Logarithms, torch.float64),
    "newton": (_Newton, torch.float64),
}


def _far(one: Vector, other: Vector) -> bool:
    return float((one - other).abs().max()) > ABSORBED


def _error(target: Vector, found: Vector) -> float:
    """Of the target's marginal, in L1; the source's is right."""
    return float(((target - found).exp() - 1).abs().mean())


def _iterate(one: _Iteration, tolerance: float, limit: int) -> Coupling:
    """Until the marginals are within the tolerance, nothing improves, or the limit is reached."""
    target, best, since, count = one.target, float("inf"), 0, 0
    history: list[tuple[Vector, Vector]] = []
    while True:
        count += 1
        found, error = one.step(target)
        since = 0 if error < best else since + 1
        if error <= tolerance or not found.isfinite().all() or since > PATIENCE or count == limit:
            break
        history = [] if error > 2 * best else history[-MEMORY:]
        history.append((target, found - target))
        best, target = min(best, error), _accelerated(history) if one.accelerated else found
    source, plan = one.source * one.regularisation, one.plan(target)
    return Coupling(plan, source, target * one.regularisation, error, count, error <= tolerance)


def _accelerated(history: list[tuple[Vector, Vector]]) -> Vector:
    """The combination of the last steps whose residual would be least (type II; Walker & Ni, 2011)."""
    values, residuals = (torch.stack(each) for each in zip(*history, strict=True))
    plain = values[-1] + residuals[-1]
    if len(history) < 2:
        return plain
    changes, moves = residuals.diff(dim=0), values.diff(dim=0)
    gram = changes @ changes.T
    gram.diagonal().add_(1e-10 * gram.diagonal().mean() + 1e-300)
    shares = torch.linalg.solve(gram, changes @ residuals[-1])
    return plain - shares @ (changes + moves)
