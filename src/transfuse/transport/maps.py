"""Maps from the units of a source space to those of a target: hard ones as an index, others as two matrices.

A map lies within its parent's units: leading axes of the arrays run over the *target* units of the spaces around it
(one rotation of the channels per head).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Map(ABC):
    """How the units of a source become those of a target."""

    @abstractmethod
    def push(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Carry what the units write."""

    @abstractmethod
    def pull(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Carry what reads the units."""

    @abstractmethod
    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Carry one factor per unit, as a norm's gain."""

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Carry one factor per unit of what reads the units."""
        return self.scale(values)

    @abstractmethod
    def exactness(self) -> float:
        """Root mean square per source unit of `push @ pull.T - I`: 0 for an exact map, near 1 where nothing is kept."""

    @abstractmethod
    def plan(self) -> Float[Tensor, "*within source target"]:
        """Share of each source unit that goes to each target unit; rows sum to one.

        For a signed map these are its squared entries, which sum to one for a rotation.
        """

    def taken(self) -> "Map":
        """The map itself, in memory, wherever it is kept."""
        return self

    @property
    def units(self) -> tuple[int, int]:
        """The sizes of source and target."""
        source, target = self.plan().shape[-2:]
        return source, target

    @property
    def within(self) -> int:
        """How many axes of parents lie in front of the map's own."""
        return self.plan().ndim - 2

    def entropy(self) -> float:
        """Mean entropy of a source unit's shares, in nats: 0 for a hard map, log(target) for a uniform plan."""
        shares = self.plan()
        return float((shares * -shares.clamp_min(1e-30).log()).sum(-1).mean()) + 0.0

    def support(self) -> float:
        """Mean effective support: the exponential of each unit's entropy, between 1 and the target's size."""
        shares = self.plan()
        return float((-(shares * shares.clamp_min(1e-30).log()).sum(-1)).exp().mean())


@dataclass(frozen=True, eq=False)
class Permutation(Map):
    """Target unit j is source unit `index[..., j]`."""

    index: Int[Tensor, "*within units"]

    def push(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        if self.index.ndim == 1:
            return values.index_select(-1, self.index.to(values.device))
        index = self.index.to(values.device).unsqueeze(-2)
        return values.gather(-1, index.expand(values.shape))

    def pull(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.push(values)

    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return Permutation.push(self, values)

    def exactness(self) -> float:
        return 0.0

    def plan(self) -> Float[Tensor, "*within source target"]:
        return torch.nn.functional.one_hot(self.index, self.index.shape[-1]).transpose(-1, -2).float().contiguous()

    @property
    def units(self) -> tuple[int, int]:
        return self.index.shape[-1], self.index.shape[-1]

    @property
    def within(self) -> int:
        return self.index.ndim - 1

    def entropy(self) -> float:
        return 0.0

    def support(self) -> float:
        return 1.0


@dataclass(frozen=True, eq=False)
class SignedPermutation(Permutation):
    """A permutation whose target unit j is `sign[..., j]` (1 or -1) times its source unit."""

    sign: Float[Tensor, "*within units"]

    def push(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return super().push(values) * self.sign.unsqueeze(-2).to(values)


@dataclass(frozen=True, eq=False)
class Matrix(Map):
    """`push` for axes that write, `pull` for axes that read; exact iff `push @ pull.T` is the identity."""

    forward: Float[Tensor, "*within source target"]
    backward: Float[Tensor, "*within source target"]

    def push(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return values @ self.forward.to(values)

    def pull(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return values @ self.backward.to(values)

    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.push(values)

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.pull(values)

    def exactness(self) -> float:
        product = self.forward @ self.backward.transpose(-1, -2)
        units = product.shape[-1]
        deviation = product - torch.eye(units, dtype=product.dtype, device=product.device)
        return float(deviation.square().sum((-1, -2)).div(units).mean().sqrt())

    def plan(self) -> Float[Tensor, "*within source target"]:
        shares = self.backward if (self.backward >= 0).all() else self.backward.square()
        return shares / shares.sum(-1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Invertible(Matrix):
    """A change of basis. Factors per unit become the diagonal of `push.T diag(factors) pull`: equal ones stay."""

    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return values @ (self.forward * self.backward).to(values)

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.scale(values)


def rotation(matrix: Float[Tensor, "*within units units"]) -> Invertible:
    """An orthogonal map: push and pull agree."""
    return Invertible(matrix, matrix)


def invertible(matrix: Float[Tensor, "*within units units"]) -> Invertible:
    """Push by M, pull by its inverse transpose."""
    return Invertible(matrix, torch.linalg.inv(matrix).transpose(-1, -2))


def from_plan(plan: Float[Tensor, "source target"]) -> Matrix:
    """Barycentric maps of a transport plan: push = P diag(1/nu), pull = diag(1/mu) P.

    Differs from OTFusion and TF-OT, which use one map n0 P on both sides: the same for equal sizes and uniform
    marginals, off by the ratio of the sizes otherwise.
    """
    return Matrix(plan / plan.sum(0), plan / plan.sum(1, keepdim=True))
