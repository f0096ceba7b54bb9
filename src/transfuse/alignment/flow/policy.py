"""Which map leaves a residual junction where two arrive (TF-OT, section 4.2)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.errors import SpecError
from transfuse.transport.maps import Map, Matrix

Strength = Float[Tensor, " target"]  # mean absolute activation of every anchor unit
Policy = Callable[[Map, Map, Strength, Strength], Map]


def average(skip: Map, branch: Map, skip_strength: Strength, branch_strength: Strength) -> Map:
    """The mean of both maps."""
    half = torch.tensor(0.5, dtype=torch.float64)
    return _mixed(skip, branch, half)


def weighted_scalar(skip: Map, branch: Map, skip_strength: Strength, branch_strength: Strength) -> Map:
    """Each map by its share of the mean absolute activation."""
    skip_mean, branch_mean = skip_strength.mean(), branch_strength.mean()
    share = skip_mean / (skip_mean + branch_mean).clamp_min(1e-12)
    return _mixed(skip, branch, share)


def weighted_matrix(skip: Map, branch: Map, skip_strength: Strength, branch_strength: Strength) -> Map:
    """The same for every anchor unit: diag(share) on the right."""
    return _mixed(skip, branch, skip_strength / (skip_strength + branch_strength).clamp_min(1e-12))


def only_skip(skip: Map, branch: Map, skip_strength: Strength, branch_strength: Strength) -> Map:
    """The skip connection's map."""
    return skip


def only_branch(skip: Map, branch: Map, skip_strength: Strength, branch_strength: Strength) -> Map:
    """The branch's map."""
    return branch


def identity(skip: Map, branch: Map, skip_strength: Strength, branch_strength: Strength) -> Map:
    """Unit i to unit i. Raises `SpecError` where the widths differ."""
    source, target = skip.units
    if source != target:
        raise SpecError(f"the identity policy needs equal widths, found {source} and {target}; choose another policy")
    return Matrix(*(torch.eye(source, dtype=torch.float64),) * 2)


POLICIES: dict[str, Policy] = {
    "mean": average,
    "scalar": weighted_scalar,
    "matrix": weighted_matrix,
    "skip": only_skip,
    "branch": only_branch,
    "identity": identity,
}
WEIGHTED = ("scalar", "matrix")  # those that look at activations


def _mixed(skip: Map, branch: Map, share: Tensor) -> Matrix:
    pairs = zip(_matrices(skip.materialized()), _matrices(branch.materialized()), strict=True)
    return Matrix(*(left * share.to(left) + right.to(left) * (1 - share.to(left)) for left, right in pairs))


def _matrices(chosen: Map) -> tuple[Tensor, Tensor]:
    if isinstance(chosen, Matrix):
        return chosen.forward, chosen.backward
    plan = chosen.plan().double()
    return plan, plan
