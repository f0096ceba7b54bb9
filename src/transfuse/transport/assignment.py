"""The best permutation between two sets of units, by Jonker and Volgenant's algorithm (1987): lapx where it is there,
several times faster, else SciPy.

From a certain size on, potentials from a few entropic iterations are subtracted first: the solution is the same, and
nearly there. In float32, that is, to one part in ten million of the cost. Not where units find their own partners: that
is solved at once.
"""

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.transport.sinkhorn import sinkhorn, size

try:
    import lap
except ImportError:  # an extra
    lap = None

LARGE = 2048  # units from which potentials come first
REGULARISATION = 0.02  # of these, relative to the mean cost above each row's least
APART = 0.9  # of the units are some other unit's best partner: hardly two want the same
TIED = 1e-6  # relative to the largest cost: what differs by less differs by rounding
ROUGH = 0.1  # error of the marginals that is good enough for them


def assignment(score: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    """The permutation of largest total score: entry j is the source of target j."""
    return assignments(score.unsqueeze(0))[0]


def assignments(scores: Float[Tensor, "batch source target"]) -> Int[Tensor, "batch target"]:
    """Several of the same size.

    Raises:
        TransfuseError: a score is not a finite number.
    """
    if not scores.isfinite().all():
        raise TransfuseError("units cannot be matched: their scores are not finite; look for weights that overflowed")
    solve = _easier if scores.shape[-1] >= LARGE else _solved
    costs = [-score.detach() / size(score) for score in scores]  # solvers compare differences with fixed tolerances
    found = [unmoved(solve(cost), cost) for cost in costs]
    return torch.stack(found).to(scores.device) if found else torch.empty(scores.shape[:-1], dtype=torch.long)


def _solved(cost: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    array = cost.cpu().contiguous().numpy()
    target = torch.as_tensor(lap.lapjvh(array, return_cost=False)[1] if lap else linear_sum_assignment(array)[1])
    return torch.empty_like(target).scatter_(0, target, torch.arange(len(target)))


def unmoved(index: Int[Tensor, " target"], cost: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    """A permutation of the same cost that leaves as many units in their places as exchanges of two can.

    Units that tie, as pruned ones do, say nothing of where they belong; the identity at least keeps them where all
    other evidence has them.
    """
    index, places = index.to(cost.device), torch.arange(len(index), device=cost.device)
    tied = TIED * cost.abs().max()
    if cost.diagonal().mean() <= cost[index, places].mean() + tied:
        return places
    while True:
        partner = torch.empty_like(index).scatter_(0, index, places)  # where each unit's own source has gone
        gain = cost[places, places] + cost[index, partner] - cost[index, places] - cost[places, partner]
        movable = ((index != places) & (gain <= tied)).nonzero().flatten().cpu().tolist()
        if not movable:
            return index
        for place in movable:  # an exchange changes what the next one would be: they are looked at again
            source, other = int(index[place]), int((index == place).nonzero())
            change = cost[place, place] + cost[source, other] - cost[source, place] - cost[place, other]
            if source != place and change <= tied:
                index[place], index[other] = place, source


def _easier(cost: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    """Less potentials that nearly solve it."""
    above = (cost - cost.amin(1, keepdim=True)).float()
    if len(above.argmin(1).unique()) > APART * len(above) or not above.any():
        return _solved(above)
    found = sinkhorn(above, REGULARISATION * float(above.mean()), tolerance=ROUGH, domain="float32")
    return _solved(above.sub_(found.source.float().unsqueeze(1)).sub_(found.target.float()))
