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
from transfuse.transport.sinkhorn import sinkhorn

try:
    import lap
except ImportError:  # an extra
    lap = None

LARGE = 2048  # units from which potentials come first
REGULARISATION = 0.02  # of these, relative to the mean cost above each row's least
APART = 0.9  # of the units are some other unit's best partner: hardly two want the same
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
    found = [solve(-score.detach()) for score in scores]
    return torch.stack(found).to(scores.device) if found else torch.empty(scores.shape[:-1], dtype=torch.long)


def _solved(cost: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    array = cost.cpu().contiguous().numpy()
    target = torch.as_tensor(lap.lapjvh(array, return_cost=False)[1] if lap else linear_sum_assignment(array)[1])
    return torch.empty_like(target).scatter_(0, target, torch.arange(len(target)))


def _easier(cost: Float[Tensor, "source target"]) -> Int[Tensor, " target"]:
    """Less potentials that nearly solve it."""
    above = (cost - cost.amin(1, keepdim=True)).float()
    if len(above.argmin(1).unique()) > APART * len(above) or not above.any():
        return _solved(above)
    found = sinkhorn(above, REGULARISATION * float(above.mean()), tolerance=ROUGH, domain="float32")
    return _solved(above.sub_(found.source.float().unsqueeze(1)).sub_(found.target.float()))
