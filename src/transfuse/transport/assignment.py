"""The best permutation between two sets of units, by Jonker and Volgenant's algorithm (1987).

lapx solves it if it is installed, several times faster than SciPy. From `POTENTIALS_FROM` units on, potentials from a
few entropic iterations are subtracted from the costs first. The solution is the same, to one part in ten million of the
cost in float32, and the solver starts close to it. This step is skipped if nearly every unit has its own best partner,
since such problems are solved at once.
"""

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from transfuse.transport.sinkhorn import check_scores, magnitude, sinkhorn

try:
    import lap
except ImportError:  # lapx is an optional dependency
    lap = None

POTENTIALS_FROM = 2048  # units
POTENTIALS_REGULARIZATION = 0.02  # relative to the mean cost above each row's minimum
POTENTIALS_TOLERANCE = 0.1  # error of the marginals
DISTINCT_PARTNERS = 0.9  # share of units that are another unit's best partner, above which potentials are skipped
TIE_TOLERANCE = 1e-6  # relative to the largest costs; smaller differences are rounding


def assignment(score: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    """Return the permutation of largest total score: entry j is the source of target j.

    Raises:
        TransfuseError: a score is not finite.
    """
    return assignments(score.unsqueeze(0))[0]


def assignments(scores: Float[Tensor, "batch source target"]) -> Int[Tensor, "batch target"]:
    """Return the permutations of largest total score for several problems of the same size.

    Raises:
        TransfuseError: a score is not finite.
    """
    check_scores(scores)
    solve = _solve_with_potentials if scores.shape[-1] >= POTENTIALS_FROM else _solve
    costs = [-score.detach() / magnitude(score) for score in scores]  # solvers use absolute tolerances
    indices = [prefer_identity(solve(cost), cost) for cost in costs]
    return torch.stack(indices).to(scores.device) if indices else torch.empty(scores.shape[:-1], dtype=torch.long)


def _solve(cost: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    array = cost.cpu().contiguous().numpy()
    target = torch.as_tensor(lap.lapjvh(array, return_cost=False)[1] if lap else linear_sum_assignment(array)[1])
    return torch.empty_like(target).scatter_(0, target, torch.arange(len(target)))


def _solve_with_potentials(cost: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    """Subtract the potentials of a rough entropic plan, and solve what is left."""
    reduced = (cost - cost.amin(1, keepdim=True)).float()
    if len(reduced.argmin(1).unique()) > DISTINCT_PARTNERS * len(reduced) or not reduced.any():
        return _solve(reduced)
    regularization = POTENTIALS_REGULARIZATION * float(reduced.mean())
    coupling = sinkhorn(reduced, regularization, tolerance=POTENTIALS_TOLERANCE, domain="float32")
    return _solve(reduced.sub_(coupling.source.float().unsqueeze(1)).sub_(coupling.target.float()))


def prefer_identity(index: Int[Tensor, " target"], cost: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    """Return a permutation of the same cost with as many fixed points as exchanges of two units can reach.

    The costs of units that tie, such as pruned ones, do not determine their order. The identity keeps them in the order
    that all other evidence supports. Rounding is relative to the costs of the units that change places, since a single
    unit may be thousands of times larger than the others.
    """
    index = index.to(cost.device)
    units = torch.arange(len(index), device=cost.device)
    rounding = TIE_TOLERANCE * cost.abs().amax(1)  # of each source
    moved = index != units
    if (cost.diagonal() - cost[index, units])[moved].sum() <= rounding[moved].sum():
        return units
    while True:
        target = torch.empty_like(index).scatter_(0, index, units)  # the target of each source
        change = cost[units, units] + cost[index, target] - cost[index, units] - cost[units, target]
        movable = ((index != units) & (change <= rounding.maximum(rounding[index]))).nonzero().flatten().cpu().tolist()
        if not movable:
            return index
        for unit in movable:  # an exchange changes the cost of the next one, so each is computed again
            source = int(index[unit])
            other = int((index == unit).nonzero())
            increase = cost[unit, unit] + cost[source, other] - cost[source, unit] - cost[unit, other]
            if source != unit and increase <= rounding[unit].maximum(rounding[source]):
                index[unit] = unit
                index[other] = source
