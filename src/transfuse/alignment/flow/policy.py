"""The policies of residual junctions: which map leaves a junction that two maps enter (TF-OT, section 4.2)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.errors import SpecError
from transfuse.transport.maps import Map, Matrix

ActivationNorms = Float[Tensor, " target"]
"""The mean absolute activation of each of the anchor's units."""

Policy = Callable[[Map, Map, ActivationNorms, ActivationNorms], Map]
"""Returns the map that leaves a junction, from the maps and the activation norms of the skip connection and branch."""


def average(skip: Map, branch: Map, skip_norms: ActivationNorms, branch_norms: ActivationNorms) -> Map:
    """Return the mean of both maps."""
    return _mixed(skip, branch, torch.tensor(0.5, dtype=torch.float64))


def weighted_scalar(skip: Map, branch: Map, skip_norms: ActivationNorms, branch_norms: ActivationNorms) -> Map:
    """Return the mean of both maps, weighted by their total activation norms."""
    skip_mean, branch_mean = skip_norms.mean(), branch_norms.mean()
    return _mixed(skip, branch, skip_mean / (skip_mean + branch_mean).clamp_min(1e-12))


def weighted_matrix(skip: Map, branch: Map, skip_norms: ActivationNorms, branch_norms: ActivationNorms) -> Map:
    """Return the mean of both maps, weighted by the activation norms of each of the anchor's units."""
    return _mixed(skip, branch, skip_norms / (skip_norms + branch_norms).clamp_min(1e-12))


def only_skip(skip: Map, branch: Map, skip_norms: ActivationNorms, branch_norms: ActivationNorms) -> Map:
    """Return the map of the skip connection."""
    return skip


def only_branch(skip: Map, branch: Map, skip_norms: ActivationNorms, branch_norms: ActivationNorms) -> Map:
    """Return the map of the branch."""
    return branch


def identity(skip: Map, branch: Map, skip_norms: ActivationNorms, branch_norms: ActivationNorms) -> Map:
    """Return the identity. Raises `SpecError` if the widths differ."""
    source, target = skip.units
    if source != target:
        raise SpecError(
            f"policy identity needs models of equal width, but they have {source} and {target} units; choose another"
            " policy"
        )
    return Matrix(*(torch.eye(source, dtype=torch.float64),) * 2)


POLICIES: dict[str, Policy] = {
    "mean": average,
    "scalar": weighted_scalar,
    "matrix": weighted_matrix,
    "skip": only_skip,
    "branch": only_branch,
    "identity": identity,
}
WEIGHTED = ("scalar", "matrix")  # policies that use activation norms


def _mixed(skip: Map, branch: Map, share: Tensor) -> Matrix:
    pairs = zip(_matrices(skip), _matrices(branch), strict=True)
    return Matrix(*(left * share.to(left) + right.to(left) * (1 - share.to(left)) for left, right in pairs))


def _matrices(map_: Map) -> tuple[Tensor, Tensor]:
    """Return the matrices that push and pull."""
    if isinstance(map_, Matrix):
        return map_.forward, map_.backward
    plan = map_.plan().double()
    return plan, plan
