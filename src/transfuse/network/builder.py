"""The builder, with which a declaration is written line by line in the order of the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transfuse.network.operations import (
    Axes,
    Concatenation,
    Embedding,
    Junction,
    LayerScale,
    Linear,
    Norm,
    Op,
    Packed,
    Parameter,
    Table,
)
from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import Spec
from transfuse.network.token_layout import Tokens


@dataclass(frozen=True)
class Normed:
    """A space behind the norm of this name."""

    space: Axis
    norm: str


class Builder:
    """A list of operations in the making; `build` returns the `Spec`.

    Attributes:
        family: the name of the family.
        part: the part of the network that the following operations belong to: attention, ffn, ...
        prefix_only: whether only special tokens of the following linear maps affect the output of the network.
        tokens: the tokens of a sequence, if special tokens or patches matter.
    """

    def __init__(self, family: str) -> None:
        self.family = family
        self.ops: list[Op] = []
        self.part = ""
        self.prefix_only = False
        self.tokens: Tokens | None = None

    def fixed(self, name: str, units: int) -> Space:
        """Return a space of units with a fixed meaning: pixels, positions, classes."""
        return Space(name, units, Group.FIXED)

    def free(self, name: str, units: int, group: Group = Group.PERMUTATION, within: Space | None = None) -> Space:
        """Return a space of interchangeable units, and the group that transforms them."""
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
        observable: bool = True,
        activated: bool = False,
    ) -> None:
        """Declare a linear map; see `Linear`. For a patch convolution, `reads` has its input axes in memory order."""
        norm = reads.norm if isinstance(reads, Normed) else None
        source = reads.space if isinstance(reads, Normed) else reads
        axes = source if isinstance(source, tuple) else (source,)
        kind = (weight, transposed, stacked, self.part, self.prefix_only, observable, activated)
        self.ops.append(Linear(name, writes, axes, norm, bias, *kind))

    def packed(self, name: str, maps: Sequence[tuple[Axis | Normed, Axis]], weight: str, bias: str) -> None:
        """Declare linear maps in one tensor, given what each of them reads and writes; see `Packed`."""
        inner = Builder(self.family)
        inner.part = self.part
        for number, (reads, writes) in enumerate(maps):
            inner.linear(f"{name}[{number}]", reads, writes, bias, weight=weight, observable=False)
        linears = tuple(op for op in inner.ops if isinstance(op, Linear))
        self.ops.append(Packed(name, linears, weight, bias, self.part))

    def norm(self, name: str, space: Axis, bias: str | None = "bias", *, keeps_mean: bool = False) -> Normed:
        """Declare a LayerNorm whose output only the following branch reads, and return that output."""
        self.ops.append(Norm(name, space, bias=bias, keeps_mean=keeps_mean))
        return Normed(space, name)

    def rms_norm(self, name: str, space: Axis, offset: float = 0.0) -> Normed:
        """Declare an RMSNorm whose output only the following branch reads, and return that output."""
        self.ops.append(Norm(name, space, centers=False, bias=None, offset=offset))
        return Normed(space, name)

    def plain_norm(self, name: str, space: Axis) -> Normed:
        """Declare a LayerNorm without gain and bias, and return its output, which rotates as the stream does."""
        self.ops.append(Norm(name, space, bias=None, has_gain=False))
        return Normed(space, name)

    def post_norm(self, name: str, space: Axis, bias: str | None = "bias", on_tokens: bool = True) -> None:
        """Declare a LayerNorm whose output is the space itself. If `space` is a dual, gain and bias read it."""
        self.ops.append(Norm(name, space, bias=bias, part=self._norm_part(), on_tokens=on_tokens))

    def post_rms_norm(self, name: str, space: Axis, offset: float = 0.0) -> None:
        """Declare an RMSNorm whose output is the space itself."""
        self.ops.append(Norm(name, space, centers=False, bias=None, offset=offset, part=self._norm_part()))

    def _norm_part(self) -> str:
        return "head" if self.part == "head" else "norms"

    def mark_as_output(self, norm: str) -> None:
        """Declare that the output of a norm is also an output of the network."""
        self._mark(norm, is_output=True)

    def mark_as_divided(self, norm: str) -> None:
        """Declare that the output of a norm is divided by the root of the width."""
        self._mark(norm, divided=True)

    def _mark(self, norm: str, **changes: Any) -> None:
        self.ops = [replace(op, **changes) if isinstance(op, Norm) and op.name == norm else op for op in self.ops]

    def layer_scale(self, name: str, space: Space, writer: str) -> None:
        """Declare a factor per unit on the output of the linear map `writer`."""
        self.ops.append(LayerScale(name, space, writer))

    def parameter(self, name: str, *axes: Axis, offset: float = 0.0, spans_heads: bool = False) -> None:
        """Declare any other tensor; see `Parameter`."""
        self.ops.append(Parameter(name, axes, self.part, offset, spans_heads))

    def embedding(self, name: str, rows: Space, writes: Space, *, scaled: bool = False) -> None:
        """Declare a module that looks up one row of the stream per index; see `Embedding`."""
        self.ops.append(Embedding(name, rows, writes, scaled=scaled))

    def table(self, name: str, rows: Axes, writes: Space) -> None:
        """Declare a table of positions or a class token: one row of the stream per fixed index."""
        self.ops.append(Table(name, rows, writes, self.part))

    def join(self, name: str, skip: Space, branch: Space, factor: float = 1.0) -> Space:
        """Declare a residual addition of `factor` times the branch, and return the stream behind it."""
        joined = replace(skip, name=name)
        self.ops.append(Junction(joined, skip, branch, factor=factor))
        return joined

    def concatenate(self, name: str, tokens: Space, others: Space) -> Space:
        """Declare a concatenation of tokens, and return the stream of both."""
        joined = replace(tokens, name=name)
        self.ops.append(Concatenation(joined, tokens, others))
        return joined

    def build(self) -> Spec:
        """Return the declaration. Raise `SpecError` if a tensor is declared twice, or if two spaces share a name."""
        spec = Spec(self.family, tuple(self.ops), self.tokens)
        spec.tensors()
        spec.spaces()
        return spec
