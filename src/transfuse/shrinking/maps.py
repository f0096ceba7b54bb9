"""Maps from the units of a large model to those of a smaller one."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from transfuse.transport.maps import Map, Matrix, Permutation


@dataclass(frozen=True, eq=False)
class Truncation(Matrix):
    """A rotation of the residual stream of which only some directions are kept.

    A norm divides by the root of the mean square, so the smaller stream is scaled by the root of the ratio of the
    widths: then its norm gives what the norm of the large stream gives in the kept directions, times that scale.
    Equal gains stay equal. If no norm has a gain, norms ignore that scale, and the inverse scale also writes a matrix
    right that is tied to one that reads the stream.
    """

    def scale(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        weights = self.forward * self.backward
        return values @ (weights / weights.sum(0)).to(values)

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Map gains in front of a matrix that is tied to one that writes the stream, and so has its scale twice."""
        return self.scale(values) * (self.backward.square().sum() / self.forward.square().sum()).sqrt().to(values)


def truncation(directions: Float[Tensor, "source target"], has_gains: bool = True) -> Truncation:
    """Return the map that keeps orthonormal directions of a stream.

    Args:
        has_gains: whether a norm of the stream has a gain.
    """
    source, target = directions.shape
    factor = (target / source) ** 0.5
    backward = directions.double() / factor
    return Truncation(factor * directions.double() if has_gains else backward, backward)


def with_ones(directions: Float[Tensor, "source kept"]) -> Float[Tensor, "source target"]:
    """Return orthonormal directions that map vectors of equal entries to such vectors, as LayerNorm needs it.

    Args:
        directions: orthonormal, each with entries that sum to zero; the result has one more.
    """
    source, kept = directions.shape
    ones = directions.new_full((source, 1), source**-0.5)
    return directions @ centered_basis(kept + 1).to(directions).T + ones * (kept + 1) ** -0.5


def centered_basis(units: int) -> Float[Tensor, "units kept"]:
    """Return an orthonormal basis of the vectors that sum to zero, each near a single unit.

    These are the columns of the reflection that exchanges the first unit and the vector of ones, without the first.
    """
    normal = torch.full((units,), -(units**-0.5), dtype=torch.float64)
    normal[0] += 1
    eye = torch.eye(units, dtype=torch.float64)
    return (eye - 2 * torch.outer(normal, normal) / normal.square().sum().clamp_min(1e-30))[:, 1:]


@dataclass(frozen=True, eq=False)
class Reconstruction(Matrix):
    """A choice of units of a stream; what reads the others reads what the chosen ones tell of them."""

    def scale_back(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        """Map gains in front of a matrix that is tied to one that writes the stream: chosen units count for others."""
        return self.scale(values) * self.backward.square().sum(0).to(values)


def reconstruction(index: Int[Tensor, " target"], from_chosen: Float[Tensor, "source target"]) -> Reconstruction:
    """Return the map to the units `index`.

    Args:
        from_chosen: the factors with which the chosen units give all units best.
    """
    chosen = torch.nn.functional.one_hot(index, len(from_chosen)).T.to(from_chosen)
    return Reconstruction(chosen, from_chosen)


@dataclass(frozen=True, eq=False)
class Selection(Permutation):
    """A choice of units: target unit j is source unit `index[j]`."""


@dataclass(frozen=True, eq=False)
class NestedSelection(Matrix):
    """A choice of units within each unit of an outer space, as of the query heads in each group."""


def nested_selection(index: Int[Tensor, "within target"], source: int) -> NestedSelection:
    """Return the map to the units `index[i]` within the i-th unit of the outer space."""
    matrix = torch.nn.functional.one_hot(index, source).transpose(-1, -2).double().contiguous()
    return NestedSelection(matrix, matrix)


@dataclass(frozen=True, eq=False)
class FewerChannels(Matrix):
    """Fewer channels within each head, or within each group of heads."""


@dataclass(frozen=True, eq=False)
class FrequencyGains(Matrix):
    """A map of the gains of rotary frequencies. New frequencies get the mean gain."""

    def push(self, values: Float[Tensor, "*within rest source"]) -> Float[Tensor, "*within rest target"]:
        new = (self.forward.sum(0) == 0) * self.forward.max()
        return super().push(values) + new.to(values) * values.mean(-1, keepdim=True)


# All kinds of maps to a smaller model, by name.
KINDS: dict[str, type[Map]] = {
    kind.__name__: kind
    for kind in (Truncation, Reconstruction, Selection, NestedSelection, Matrix, FewerChannels, FrequencyGains)
}
