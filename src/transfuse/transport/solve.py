"""Plans and maps from costs and scores. Results are immutable and carry their cost and whether they converged."""

from collections.abc import Callable
from dataclasses import dataclass

import ot
import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.transport.assignment import assignment
from transfuse.transport.maps import Map, Matrix, Permutation, from_plan, rotation
from transfuse.transport.sinkhorn import sinkhorn

ACCEPTED = 1e-4  # L1 error of the marginals, of a mass of one, that a plan may keep


@dataclass(frozen=True)
class Match:
    """A map and what it costs: <P, C> for a plan, the relative residual |xQ - y|^2 / (|x|^2 + |y|^2) otherwise."""

    map: Map
    cost: float


Solver = Callable[[Float[Tensor, "source target"]], Match]


def exact(cost: Float[Tensor, "source target"]) -> Match:
    """The optimal plan between uniform marginals: a permutation where the sizes agree, else by network simplex."""
    source, target = cost.shape
    if source != target:
        return simplex(cost)
    index = assignment(-cost)
    return Match(Permutation(index), float(cost[index, torch.arange(target)].mean()))


def simplex(cost: Float[Tensor, "source target"]) -> Match:
    """The optimal plan by the network simplex (POT's `ot.emd`), as a matrix also where it is a permutation."""
    source, target = cost.shape
    mu, nu = _uniform(source), _uniform(target)
    plan, log = ot.emd(mu, nu, cost.double().cpu().numpy(), numItermax=10_000_000, log=True)
    if log["warning"]:
        raise TransfuseError(f"exact transport of {source} x {target} units did not finish: {log['warning']}")
    return _match(torch.from_numpy(plan), cost)


def entropic(regularisation: float) -> Solver:
    """Sinkhorn's algorithm (Cuturi, 2013) at a regularisation in the units of the cost."""

    def solve(cost: Float[Tensor, "source target"]) -> Match:
        found = sinkhorn(cost, regularisation)
        if found.error > ACCEPTED:
            raise TransfuseError(
                f"entropic transport of {cost.shape[0]} x {cost.shape[1]} units did not converge at regularisation"
                f" {regularisation} (marginals off by {found.error:.1e}); raise it or use exact plans"
            )
        return _match(found.plan.double(), cost)

    return solve


def uniform(cost: Float[Tensor, "source target"]) -> Match:
    """The plan that knows nothing: every source unit spread over all targets. A control."""
    return _match(torch.full(cost.shape, 1 / cost.numel(), dtype=torch.float64), cost)


def _uniform(units: int):  # type: ignore[no-untyped-def]
    return torch.full((units,), 1 / units, dtype=torch.float64).numpy()


def _match(plan: Float[Tensor, "source target"], cost: Float[Tensor, "source target"]) -> Match:
    return Match(from_plan(plan), float((plan * cost.to(plan)).sum()))


def procrustes(
    cross: Float[Tensor, "*within units units"],
) -> tuple[Float[Tensor, "*within units units"], Float[Tensor, "*within"]]:
    """The orthogonal Q that maximises <Q, cross>, and that maximum (Schönemann, 1966)."""
    left, values, right = torch.linalg.svd(cross)
    return left @ right, values.sum(-1)


def centred_procrustes(cross: Float[Tensor, "units units"]) -> Matrix:
    """The orthogonal Q fixing the all-ones vector that maximises <Q, cross>."""
    units = cross.shape[-1]
    ones = torch.full((units, units), 1 / units, dtype=cross.dtype, device=cross.device)
    free = torch.eye(units, dtype=cross.dtype, device=cross.device) - ones
    pinned = free @ cross @ free + ones * (1 + torch.linalg.matrix_norm(cross))
    return rotation(procrustes(pinned)[0])
