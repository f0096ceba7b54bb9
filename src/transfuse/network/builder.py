"""A declaration, written line by line in the order of the forward pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import (
    Axes,
    Concatenation,
    Embedding,
    Junction,
    LayerScale,
    Linear,
    Norm,
    Op,
    Parameter,
    Spec,
    Table,
    Tokens,
)


@dataclass(frozen=True)
class Normed:
    """A space as a norm hands it on."""

    space: Axis
    norm: str


class Builder:
    """Collects declarations; `build` gives the `Spec`."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.ops: list[Op] = []
        self.part = ""  # of the linear maps declared from here on
        self.prefix_only = False  # likewise
        self.tokens: Tokens | None = None

    def fixed(self, name: str, units: int) -> Space:
        """Units with an identity: pixels, positions, classes."""
        return Space(name, units, Group.FIXED)

    def free(self, name: str, units: int, group: Group = Group.PERMUTATION, within: Space | None = None) -> Space:
        """Interchangeable units, and the group that interchanges them."""
        return Space(name, units, group, within)

    def linear(
        self,
        name: str,
        reads: Axis | Axes | Normed,
        writes: Axis,
        bias: str | None = "bias",
        *,
        weight: str = "weight",
        transposed: bool = False,
        stacked: Space | None = None,
    ) -> None:
        """A linear map or a patch convolution (`reads` is then its input axes in memory order); see `Linear`."""
        norm = reads.norm if isinstance(reads, Normed) else None
        source = reads.space if isinstance(reads, Normed) else reads
        axes = source if isinstance(source, tuple) else (source,)
        self.ops.append(
            Linear(name, writes, axes, norm, bias, weight, transposed, stacked, self.part, self.prefix_only)
        )

    def norm(self, name: str, space: Axis, bias: str | None = "bias") -> Normed:
        """LayerNorm in front of a branch, which alone reads its output."""
        self.ops.append(Norm(name, space, bias=bias))
        return Normed(space, name)

    def rms_norm(self, name: str, space: Axis, offset: float = 0.0) -> Normed:
        """RMSNorm in front of a branch, which alone reads its output."""
        self.ops.append(Norm(name, space, centers=False, bias=None, offset=offset))
        return Normed(space, name)

    def post_norm(self, name: str, space: Axis, bias: str | None = "bias") -> None:
        """LayerNorm that what follows stands on: its output is the space itself. A dual: gain and bias read it."""
        self.ops.append(Norm(name, space, bias=bias, part=self._norm_part()))

    def post_rms_norm(self, name: str, space: Axis, offset: float = 0.0) -> None:
        """RMSNorm that what follows stands on."""
        self.ops.append(Norm(name, space, centers=False, bias=None, offset=offset, part=self._norm_part()))

    def _norm_part(self) -> str:
        return "head" if self.part == "head" else "norms"

    def show(self, norm: str) -> None:
        """Declare that a norm's output is also an output of the network."""
        self.ops = [replace(op, is_output=True) if isinstance(op, Norm) and op.name == norm else op for op in self.ops]

    def layer_scale(self, name: str, space: Space, writer: str) -> None:
        """A factor per unit on what the linear map `writer` puts out."""
        self.ops.append(LayerScale(name, space, writer))

    def parameter(self, name: str, *axes: Axis, offset: float = 0.0) -> None:
        """Any other tensor."""
        self.ops.append(Parameter(name, axes, self.part, offset))

    def embedding(self, name: str, rows: Space, writes: Space) -> None:
        """A module that looks up one row of the stream per index."""
        self.ops.append(Embedding(name, rows, writes))

    def table(self, name: str, rows: Axes, writes: Space) -> None:
        """A position table, a class token: one row of the stream per fixed index."""
        self.ops.append(Table(name, rows, writes, self.part))

    def join(self, name: str, skip: Space, branch: Space) -> Space:
        """A residual addition; gives the stream behind it."""
        joined = replace(skip, name=name)
        self.ops.append(Junction(joined, skip, branch))
        return joined

    def concatenate(self, name: str, tokens: Space, others: Space) -> Space:
        """Tokens put side by side; gives the stream of both."""
        joined = replace(tokens, name=name)
        self.ops.append(Concatenation(joined, tokens, others))
        return joined

    def build(self) -> Spec:
        """The finished declaration."""
        spec = Spec(self.family, tuple(self.ops), self.tokens)
        spec.tensors(), spec.spaces()
        return spec
