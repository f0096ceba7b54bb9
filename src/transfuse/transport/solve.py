"""Solvers: from costs to plans, and from cross-moments to rotations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.transport.assignment import TIE_TOLERANCE, assignment
from transfuse.transport.maps import Map, Matrix, Permutation, from_plan, rotation
from transfuse.transport.sinkhorn import Coupling, check_scores, magnitude, sinkhorn

REGULARIZATION_RANGE = (1e-3, 10.0)  # relative to the mean cost above the minimum, where a support is searched for
MAX_BISECTIONS = 20
SUPPORT_TOLERANCE = 0.01  # relative error of the support
MAX_MARGINAL_ERROR = 1e-4  # L1, of a plan of mass one
CHUNK_ROWS = 512  # rows of a plan that are searched for ties together
SYMMETRY_TOLERANCE = 1e-5  # relative difference of forward and backward map up to which they share one matrix


@dataclass(frozen=True)
class Match:
    """A map and its cost: <P, C> for a plan P; else the relative residual |xQ - y|^2 / (|x|^2 + |y|^2)."""

    map: Map
    cost: float


def maps_of(matches: Mapping[str, Match]) -> dict[str, Map]:
    """Return the map of each match, by the name of its space."""
    return {name: match.map for name, match in matches.items()}


Solver = Callable[[Float[Tensor, "source target"]], Match]


def exact(cost: Float[Tensor, "source target"]) -> Match:
    """Return the optimal plan between uniform marginals: a permutation for equal sizes, else by network simplex."""
    source, target = cost.shape
    if source != target:
        return emd(cost)
    index = assignment(-cost)
    return Match(Permutation(index), float(cost[index, torch.arange(target)].mean()))


def emd(cost: Float[Tensor, "source target"]) -> Match:
    """Return the optimal plan by network simplex (POT's `ot.emd`), as a matrix even if it is a permutation.

    Raises:
        TransfuseError: a cost is not finite, or the network simplex does not finish.
    """
    import ot  # takes most of a second, and few fusions need it

    check_scores(cost)
    source, target = cost.shape
    ground = (cost / magnitude(cost)).double().cpu().numpy()  # its tolerances are absolute
    plan, info = ot.emd(_uniform(source), _uniform(target), ground, numItermax=10_000_000, log=True)
    if info["warning"]:
        raise TransfuseError(
            f"exact transport of {source} x {target} units did not finish: {info['warning']}; choose --flow.plan soft"
        )
    return _match(torch.from_numpy(plan).to(cost.device), cost)


def entropic(regularization: float) -> Solver:
    """Return a solver by Sinkhorn's algorithm (Cuturi, 2013), with the regularization in units of the cost.

    The solver raises `TransfuseError` if the plan does not converge.
    """

    def solve(cost: Float[Tensor, "source target"]) -> Match:
        return _entropic_match(_converged(sinkhorn(cost, regularization), regularization), cost)

    return solve


def entropic_with_support(support: float) -> Solver:
    """Return a solver for entropic plans that spread each source unit over `support` target units.

    The support of a plan is the mean exponential of the entropy of its rows. The solver searches the regularization by
    bisection. It returns the uniform plan if no plan has so large a support, and the narrowest plan of the search if
    none has so small a support. It raises `TransfuseError` if a plan does not converge.
    """

    def solve(cost: Float[Tensor, "source target"]) -> Match:
        if support >= cost.shape[1]:
            return uniform(cost)
        scale = float(cost.mean() - cost.min()) or 1.0
        low, high = (log(factor * scale) for factor in REGULARIZATION_RANGE)
        coupling: Coupling | None = None
        for _ in range(MAX_BISECTIONS):
            middle = (low + high) / 2
            coupling = _converged(sinkhorn(cost, exp(middle), coupling), exp(middle), "choose another --flow.support")
            reached = from_plan(coupling.plan.double()).support()
            if abs(reached / support - 1) < SUPPORT_TOLERANCE:
                break
            low, high = (low, middle) if reached > support else (middle, high)
        assert coupling is not None
        return _entropic_match(coupling, cost)

    return solve


def identity_on_ties(solve: Solver) -> Solver:
    """Return a solver that gives ties to the identity, as exact plans between equal sizes do.

    In an entropic plan, two units whose exchange does not change the cost share their mass, so that a branch that
    writes nothing would mix all units. Here each keeps its own mass; the plan has the same cost and the same marginals.
    TF-OT mixes them.
    """

    def solve_with_ties(cost: Float[Tensor, "source target"]) -> Match:
        match = solve(cost)
        if cost.shape[0] != cost.shape[1] or not isinstance(match.map, Matrix):
            return match
        forward = _without_exchanges(match.map.forward, cost)
        if match.map.backward is match.map.forward:
            return replace(match, map=Matrix(forward, forward))
        return replace(match, map=Matrix(forward, _without_exchanges(match.map.backward, cost)))

    return solve_with_ties


def _without_exchanges(
    plan: Float[Tensor, "units units"], cost: Float[Tensor, "units units"]
) -> Float[Tensor, "units units"]:
    """Return the plan without the mass that two tied units exchange."""
    diagonal = cost.diagonal()
    tolerance = TIE_TOLERANCE * cost.abs().max()
    changed = None
    for rows in torch.arange(len(cost), device=cost.device).split(CHUNK_ROWS):
        change = diagonal[rows].unsqueeze(1) + diagonal - cost[rows] - cost[:, rows].T
        tied = change.abs() <= tolerance
        if tied.sum() > len(rows):  # every unit is tied with itself
            exchanged = torch.minimum(plan[rows], plan[:, rows].T).where(tied, plan.new_zeros(()))
            changed = plan.clone() if changed is None else changed
            changed[rows] -= exchanged
            changed[rows, rows] += exchanged.sum(1)
    return plan if changed is None else changed


def _entropic_match(coupling: Coupling, cost: Float[Tensor, "source target"]) -> Match:
    """Return a match in single precision, with one matrix for both directions if they agree.

    Single precision exceeds the accuracy to which a plan converges, and plans are as large as layers. Between equally
    many units, both directions differ only by the error of the marginals.
    """
    match = _match(coupling.plan.double(), cost)
    assert isinstance(match.map, Matrix)
    forward = match.map.forward.float()
    backward = match.map.backward.float()
    agree = torch.allclose(forward, backward, rtol=SYMMETRY_TOLERANCE, atol=0)
    return Match(Matrix(forward, forward if agree else backward), match.cost)


def _converged(coupling: Coupling, regularization: float, advice: str = "raise --flow.regularization") -> Coupling:
    """Return the coupling. Raise `TransfuseError`, with advice, if its marginals are wrong."""
    if not coupling.error <= MAX_MARGINAL_ERROR:  # also if the error is not a number
        raise TransfuseError(
            f"entropic transport of {' x '.join(map(str, coupling.plan.shape))} units did not converge at"
            f" regularization {regularization:.3g} (the marginals are off by {coupling.error:.1e}); {advice},"
            " or choose --flow.plan hard"
        )
    return coupling


def uniform(cost: Float[Tensor, "source target"]) -> Match:
    """Return the uniform plan, which spreads every source unit over all targets: a control that ignores the cost."""
    return _match(torch.full(cost.shape, 1 / cost.numel(), dtype=torch.float64, device=cost.device), cost)


def _uniform(units: int) -> np.ndarray:
    return np.full(units, 1 / units)


def _match(plan: Float[Tensor, "source target"], cost: Float[Tensor, "source target"]) -> Match:
    return Match(from_plan(plan), float((plan * cost.to(plan)).sum()))


def procrustes(
    cross: Float[Tensor, "*within units units"],
) -> tuple[Float[Tensor, "*within units units"], Float[Tensor, "*within"]]:
    """Return the orthogonal Q that maximizes <Q, cross>, and that maximum (Schönemann, 1966)."""
    left, values, right = torch.linalg.svd(cross)
    return left @ right, values.sum(-1)


def centered_procrustes(cross: Float[Tensor, "units units"]) -> Matrix:
    """Return the orthogonal Q that fixes the all-ones vector and maximizes <Q, cross>."""
    units = cross.shape[-1]
    onto_ones = torch.full((units, units), 1 / units, dtype=cross.dtype, device=cross.device)
    off_ones = torch.eye(units, dtype=cross.dtype, device=cross.device) - onto_ones
    pinned = off_ones @ cross @ off_ones + onto_ones * (1 + torch.linalg.matrix_norm(cross))
    return rotation(procrustes(pinned)[0])
