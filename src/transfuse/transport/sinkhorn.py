"""Entropic transport (Cuturi, 2013) by Sinkhorn's iterations, with Anderson acceleration (1965) of the potentials.

The kernel absorbs the potentials found so far. It is read twice per iteration, and nothing else is large. Iterations
begin in float32. They continue in float64 if float32 stalls above the tolerance, and on logarithms if the kernel
underflows. A small regularization is reached in steps from a large one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import frexp

import torch
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.transport.sinkhorn_domains import DOMAINS, CostMatrix, Iteration, Vector

HISTORY = 8  # iterations that the acceleration combines
TOLERANCE = 2e-6  # L1 error of the marginals; float32 does not reach a smaller one
PATIENCE = 50  # iterations without improvement after which the iteration has stalled
ANNEALING_START = 0.1  # largest regularization, relative to the mean cost above the minimum
ANNEALING_FACTOR = 2.0  # ratio of two successive regularizations
ANNEALING_TOLERANCE = 1e-3  # L1 error of the marginals before the last regularization


@dataclass(frozen=True, eq=False)
class Coupling:
    """A plan between uniform marginals, and how it was found.

    Attributes:
        plan: sums to one.
        source, target: the potentials, in units of the cost.
        error: L1 error of the marginals.
        iterations: the number of iterations in all domains together.
        converged: whether the error is within the tolerance.
        domain: the name of the domain in which the iteration ended; see `DOMAINS`.
    """

    plan: CostMatrix
    source: Vector
    target: Vector
    error: float
    iterations: int
    converged: bool
    domain: str = ""


def sinkhorn(
    cost: CostMatrix,
    regularization: float,
    start: Coupling | None = None,
    tolerance: float = TOLERANCE,
    max_iterations: int = 2000,
    domain: str = "auto",
) -> Coupling:
    """Return the plan of least cost plus `regularization` times relative entropy to the uniform plan.

    Args:
        regularization: in units of the cost.
        start: the solution of a similar problem.
        tolerance: L1 error of the marginals.
        max_iterations: in each domain.
        domain: float32, float64, log or newton; auto: one after the other until one converges.

    Returns:
        The last iterate, which may not have converged; see `Coupling.converged`.

    Raises:
        TransfuseError: a cost is not finite.
    """
    check_scores(cost)
    unit = magnitude(cost)  # costs of 1e-30 or 1e30 would leave the range of float32
    if start is not None:
        start = replace(start, source=start.source / unit, target=start.target / unit)
    coupling = _sinkhorn(cost / unit, regularization / unit, start, tolerance, max_iterations, domain)
    return replace(coupling, source=coupling.source * unit, target=coupling.target * unit)


def check_scores(values: Tensor) -> None:
    """Raise `TransfuseError` unless all costs or scores are finite."""
    if not values.isfinite().all():
        raise TransfuseError("units cannot be matched: their scores are not finite; look for weights that overflowed")


def magnitude(values: Tensor) -> float:
    """Return the power of two at or below the largest absolute entry, by which division is exact; 1 if all are zero."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    return 2.0 ** (frexp(largest)[1] - 1) if largest else 1.0


def _sinkhorn(
    cost: CostMatrix, regularization: float, start: Coupling | None, tolerance: float, max_iterations: int, domain: str
) -> Coupling:
    iterations = 0
    suitable = [name for name in DOMAINS if tolerance >= TOLERANCE or name != "float32"]
    for name in suitable if domain == "auto" else (domain,):
        method, dtype = DOMAINS[name]
        if start is not None and not start.source.isfinite().all():
            start = None  # the potentials overflowed
        for current in _annealing(cost, regularization) if start is None else (regularization,):
            allowed = max(ANNEALING_TOLERANCE, tolerance) if current > regularization else tolerance
            potentials = None if start is None else (start.source, start.target)
            start = _iterate(method(cost.to(dtype), current, potentials), allowed, max_iterations)
            iterations += start.iterations
        assert start is not None
        start = replace(start, iterations=iterations, domain=name)
        if start.converged:
            break
    assert start is not None
    return start


def _annealing(cost: CostMatrix, regularization: float) -> Iterator[float]:
    """Yield regularizations from a large one down to the requested one."""
    current = ANNEALING_START * float(cost.mean() - cost.min())
    while current > ANNEALING_FACTOR * regularization:
        yield current
        current /= ANNEALING_FACTOR
    yield regularization


def _iterate(method: Iteration, tolerance: float, max_iterations: int) -> Coupling:
    """Iterate until the error is within the tolerance, does not improve any more, or the limit is reached."""
    target = method.target
    best = float("inf")
    stalled = iterations = 0
    history: list[tuple[Vector, Vector]] = []
    while True:
        iterations += 1
        new_target, error = method.step(target)
        stalled = 0 if error < best else stalled + 1
        if error <= tolerance or not new_target.isfinite().all() or stalled > PATIENCE or iterations == max_iterations:
            break
        history = [] if error > 2 * best else history[-HISTORY:]
        history.append((target, new_target - target))
        best = min(best, error)
        target = _accelerated(history) if method.accelerated else new_target
    source = method.source * method.regularization
    plan = method.plan(target)
    return Coupling(plan, source, target * method.regularization, error, iterations, error <= tolerance)


def _accelerated(history: list[tuple[Vector, Vector]]) -> Vector:
    """Return the combination of the last iterates with the least residual (Anderson type II; Walker & Ni, 2011)."""
    values, residuals = (torch.stack(vectors) for vectors in zip(*history, strict=True))
    plain = values[-1] + residuals[-1]
    if len(history) < 2:
        return plain
    residual_changes = residuals.diff(dim=0)
    value_changes = values.diff(dim=0)
    gram = residual_changes @ residual_changes.T
    gram.diagonal().add_(1e-10 * gram.diagonal().mean() + 1e-300)
    coefficients = torch.linalg.solve(gram, residual_changes @ residuals[-1])
    return plain - coefficients @ (residual_changes + value_changes)
