"""Maps from the units of a source space to those of a target: permutations as an index, others as two matrices.

If a space lies within another (channels within heads), the map has leading axes over the *target* units of the outer
spaces, such as one rotation of the channels for each head.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Map(ABC):
    """A map from the units of a source to those of a target."""

    @abstractmethod
    def push(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Map an axis that writes the units."""

    @abstractmethod
    def pull(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Map an axis that reads the units."""

    @abstractmethod
    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Map one factor per unit, such as the gain of a norm."""

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Map one factor per unit on the side that reads the units."""
        return self.scale(values)

    @abstractmethod
    def exactness(self) -> float:
        """Return the root mean square per source unit of `push @ pull.T - I`.

        It is 0 for an exact map, and near 1 for a map that keeps nothing.
        """

    @abstractmethod
    def plan(self) -> Float[Tensor, "*within source target"]:
        """Return the share of each source unit that goes to each target unit; rows sum to one.

        For a signed map these are its squared entries, which sum to one for a rotation.
        """

    def tensors(self) -> dict[str, Tensor]:
        """Return what the map consists of, by the names of its fields."""
        return {name: values for name, values in vars(self).items() if isinstance(values, Tensor)}

    @property
    @abstractmethod
    def units(self) -> tuple[int, int]:
        """Return the number of source units and of target units."""

    @property
    @abstractmethod
    def parent_axes(self) -> int:
        """Return the number of leading axes, one for each outer space."""

    def entropy(self) -> float:
        """Return the mean entropy of a source unit's shares in nats: 0 for a permutation."""
        shares = self.plan()
        return float((shares * -shares.clamp_min(1e-30).log()).sum(-1).mean()) + 0.0

    def support(self) -> float:
        """Return the mean exponential of a source unit's entropy, between 1 and the number of target units."""
        shares = self.plan()
        return float((-(shares * shares.clamp_min(1e-30).log()).sum(-1)).exp().mean())


@dataclass(frozen=True, eq=False)
class Permutation(Map):
    """A permutation: target unit j is source unit `index[..., j]`."""

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
    def parent_axes(self) -> int:
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
    """A matrix for axes that write and one for axes that read; exact if `forward @ backward.T` is the identity."""

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

    @property
    def units(self) -> tuple[int, int]:
        source, target = self.backward.shape[-2:]
        return source, target

    @property
    def parent_axes(self) -> int:
        return self.backward.ndim - 2


@dataclass(frozen=True, eq=False)
class Invertible(Matrix):
    """A change of basis.

    Factors per unit become the diagonal of `forward.T diag(factors) backward`, which leaves equal factors unchanged.
    """

    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return values @ (self.forward * self.backward).to(values)

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        return self.scale(values)


def rotation(matrix: Float[Tensor, "*within units units"]) -> Invertible:
    """Return the map of an orthogonal matrix, with which axes that write and axes that read are mapped alike."""
    return Invertible(matrix, matrix)


def invertible(matrix: Float[Tensor, "*within units units"]) -> Invertible:
    """Return the map that pushes by M and pulls by its inverse transpose."""
    return Invertible(matrix, torch.linalg.inv(matrix).transpose(-1, -2))


def from_plan(plan: Float[Tensor, "source target"]) -> Matrix:
    """Return the barycentric maps of a transport plan P: forward P diag(1/nu), backward diag(1/mu) P.

    OTFusion and TF-OT use one map n0 P on both sides. It is the same for equal sizes and uniform marginals, and off by
    the ratio of the sizes otherwise.
    """
    return Matrix(plan / plan.sum(0), plan / plan.sum(1, keepdim=True))
