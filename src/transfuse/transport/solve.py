"""Plans and maps from costs and scores. Results are immutable and carry their cost and whether they converged."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp, log

import ot
import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.errors import TransfuseError
from transfuse.transport.assignment import TIED, assignment
from transfuse.transport.maps import Map, Matrix, Permutation, from_plan, rotation
from transfuse.transport.sinkhorn import Coupling, sinkhorn, size

EXTREMES = (1e-3, 10.0)  # regularisations, relative to the mean cost above the least, between which a support is sought
HALVINGS = 20  # of what lies between, at most
CLOSE = 0.01  # relative error of the support
ACCEPTED = 1e-4  # L1 error of the marginals, of a mass of one, that a plan may keep
ROWS = 512  # of a plan that are looked at together
CONVERGED = 1e-5  # relative: what a plan of equal sides may differ by, read by rows or by columns


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
        return emd(cost)
    index = assignment(-cost)
    return Match(Permutation(index), float(cost[index, torch.arange(target)].mean()))


def emd(cost: Float[Tensor, "source target"]) -> Match:
    """The optimal plan by the network simplex (POT's `ot.emd`), as a matrix also where it is a permutation."""
    source, target = cost.shape
    mu, nu = _uniform(source), _uniform(target)
    ground = (cost / size(cost)).double().cpu().numpy()  # its tolerances are absolute
    plan, log = ot.emd(mu, nu, ground, numItermax=10_000_000, log=True)
    if log["warning"]:
        raise TransfuseError(f"exact transport of {source} x {target} units did not finish: {log['warning']}")
    return _match(torch.from_numpy(plan).to(cost.device), cost)


def entropic(regularisation: float) -> Solver:
    """Sinkhorn's algorithm (Cuturi, 2013) at a regularisation in the units of the cost."""

    def solve(cost: Float[Tensor, "source target"]) -> Match:
        return _soft(_converged(sinkhorn(cost, regularisation), regularisation), cost)

    return solve


def entropic_with_support(support: float) -> Solver:
    """Entropic plans at the regularisation at which each source unit is spread over `support` target units: the mean
    exponential of its shares' entropy. Where no plan is as wide, the uniform one; none as narrow, the narrowest tried.
    """

    def solve(cost: Float[Tensor, "source target"]) -> Match:
        if support >= cost.shape[1]:
            return uniform(cost)
        above = float(cost.mean() - cost.min()) or 1.0
        low, high = (log(factor * above) for factor in EXTREMES)
        found: Coupling | None = None
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            found = _converged(sinkhorn(cost, exp(middle), found), exp(middle))
            wide = from_plan(found.plan.double()).support()
            if abs(wide / support - 1) < CLOSE:
                break
            low, high = (low, middle) if wide > support else (middle, high)
        assert found is not None
        return _soft(found, cost)

    return solve


def settled(solve: Solver) -> Solver:
    """Return the solver with ties given to the identity, as exact plans between equal sizes have them.

    Two units whose exchange changes no cost share their mass in an entropic plan, so that a branch which writes nothing
    would mix all units. Each then keeps its own: the plan has the same cost and the same marginals. Differs from TF-OT,
    which mixes them.
    """

    def solved(cost: Float[Tensor, "source target"]) -> Match:
        found = solve(cost)
        if cost.shape[0] != cost.shape[1] or not isinstance(found.map, Matrix):
            return found
        forward, backward = found.map.forward, found.map.backward
        kept = _kept(forward, cost)
        return replace(found, map=Matrix(kept, kept if backward is forward else _kept(backward, cost)))

    return solved


def _kept(plan: Float[Tensor, "units units"], cost: Float[Tensor, "units units"]) -> Float[Tensor, "units units"]:
    """The plan, what two tied units give each other taken back."""
    own, tied, changed = cost.diagonal(), TIED * cost.abs().max(), None
    for rows in torch.arange(len(cost), device=cost.device).split(ROWS):
        gain = own[rows].unsqueeze(1) + own - cost[rows] - cost[:, rows].T
        if (found := gain.abs() <= tied).sum() > len(rows):  # more than every unit with itself
            exchanged = torch.minimum(plan[rows], plan[:, rows].T).where(found, plan.new_zeros(()))
            changed = plan.clone() if changed is None else changed
            changed[rows] -= exchanged
            changed[rows, rows] += exchanged.sum(1)
    return plan if changed is None else changed


def _soft(found: Coupling, cost: Float[Tensor, "source target"]) -> Match:
    """In single precision, which is more than a plan converges to: it is as large as a layer. Of as many units on both
    sides, one matrix is both ways' but for that."""
    match = _match(found.plan.double(), cost)
    assert isinstance(match.map, Matrix)
    forward, backward = match.map.forward.float(), match.map.backward.float()
    alike = torch.allclose(forward, backward, rtol=CONVERGED, atol=0)
    return Match(Matrix(forward, forward if alike else backward), match.cost)


def _converged(found: Coupling, regularisation: float) -> Coupling:
    if not found.error <= ACCEPTED:  # nor is one that is no number
        raise TransfuseError(
            f"entropic transport of {' x '.join(map(str, found.plan.shape))} units did not converge at regularisation"
            f" {regularisation:.3g} (marginals off by {found.error:.1e}); raise it or use exact plans"
        )
    return found


def uniform(cost: Float[Tensor, "source target"]) -> Match:
    """The plan that knows nothing: every source unit spread over all targets. A control."""
    return _match(torch.full(cost.shape, 1 / cost.numel(), dtype=torch.float64, device=cost.device), cost)


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
