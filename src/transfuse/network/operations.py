"""The operations that a declaration consists of.

Names are those of the modules in memory. transformers translates them to the names in files when it saves a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from transfuse.network.space import Axis, Concat, Diagonal, Space

Axes = tuple[Axis, ...]


class Operation(ABC):
    """A part of a declaration."""

    @abstractmethod
    def tensors(self) -> dict[str, Axes]:
        """Return the axes of each of its parameters, by name."""

    def spaces(self) -> Iterator[Space]:
        """Yield the spaces that it mentions."""
        return (space for axes in self.tensors().values() for axis in axes for space in axis.spaces())


@dataclass(frozen=True)
class Linear(Operation):
    """A linear map y = W x + b, where W is [writes, *reads].

    Attributes:
        norm: the name of the norm whose output the map reads; None: it reads the stream.
        weight: the name of W within the module; empty if `name` is the parameter itself.
        transposed: whether W is stored as [reads, writes], as in GPT-2's Conv1D.
        stacked: a space with one such map per unit, W [stacked, writes, reads] and b [stacked, writes], as for experts.
        part: the name of the part of the network for users: attention, ffn, ...
        prefix_only: whether only the special tokens of its output affect the output of the network.
        activated: whether a nonlinear function stands between its output and the space that it writes.
        observable: whether a module of this name shows the map's inputs and outputs when it first runs.
    """

    name: str
    writes: Axis
    reads: Axes
    norm: str | None = None
    bias: str | None = "bias"
    weight: str = "weight"
    transposed: bool = False
    stacked: Space | None = None
    part: str = ""
    prefix_only: bool = False
    observable: bool = True
    activated: bool = False

    @property
    def matrix(self) -> str:
        """The name of the parameter W."""
        return f"{self.name}.{self.weight}" if self.weight else self.name

    def tensors(self) -> dict[str, Axes]:
        axes = (self.writes, *(~axis for axis in self.reads))
        axes = axes[::-1] if self.transposed else axes
        stack = (self.stacked,) if self.stacked else ()
        bias = {f"{self.name}.{self.bias}": (*stack, self.writes)} if self.bias else {}
        return {self.matrix: (*stack, *axes)} | bias

    def replace(self, change: Callable[[Axis], Axis]) -> Linear:
        stacked = change(self.stacked) if self.stacked else None
        return replace(self, writes=change(self.writes), reads=tuple(map(change, self.reads)), stacked=stacked)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Packed(Operation):
    """Linear maps that read different values, with their matrices below each other in one tensor.

    The MultiheadAttention of torch stores queries, keys and values like this, even if they read different inputs.

    Attributes:
        maps: the linear maps in the order of their rows, with equally many inputs.
    """

    name: str
    maps: tuple[Linear, ...]
    weight: str
    bias: str
    part: str = ""

    @property
    def matrix(self) -> str:
        """The name of the parameter with all matrices."""
        return f"{self.name}.{self.weight}"

    def tensors(self) -> dict[str, Axes]:
        writes = Concat(tuple(linear.writes for linear in self.maps))
        reads = tuple(~axis for axis in self.maps[-1].reads)
        return {self.matrix: (writes, *reads), f"{self.name}.{self.bias}": (writes,)}

    def replace(self, change: Callable[[Axis], Axis]) -> Packed:
        return replace(self, maps=tuple(linear.replace(change) for linear in self.maps))


@dataclass(frozen=True)
class Norm(Operation):
    """A norm over `space`.

    Attributes:
        centers: whether it subtracts the mean first (LayerNorm) or not (RMSNorm).
        offset: gain minus stored gain, which is 1 in Gemma.
        is_output: whether its output is also an output of the network, so that its gain cannot be folded.
        has_gain: whether it has a factor per unit; without one, it has no tensors at all.
        keeps_mean: whether the network also compares the stream itself, so that the stream cannot be centered.
        on_tokens: whether it runs on tokens, and not on rows of a table that all samples share.
        divided: whether its output is divided by the root of the width, as in front of the tied head of T5.
    """

    name: str
    space: Axis
    centers: bool = True
    bias: str | None = "bias"
    offset: float = 0.0
    part: str = "norms"
    is_output: bool = False
    has_gain: bool = True
    keeps_mean: bool = False
    on_tokens: bool = True
    divided: bool = False

    @property
    def gain(self) -> str:
        """The name of the parameter with the gain."""
        return f"{self.name}.weight"

    def tensors(self) -> dict[str, Axes]:
        gain: dict[str, Axes] = {self.gain: (Diagonal(self.space),)} if self.has_gain else {}
        return gain | ({f"{self.name}.{self.bias}": (self.space,)} if self.bias else {})

    def replace(self, change: Callable[[Axis], Axis]) -> Norm:
        return replace(self, space=change(self.space))


@dataclass(frozen=True)
class LayerScale(Operation):
    """A factor per unit on the output of the linear map `writer`."""

    name: str
    space: Axis
    writer: str
    part: str = "norms"

    def tensors(self) -> dict[str, Axes]:
        return {self.name: (Diagonal(self.space),)}

    def replace(self, change: Callable[[Axis], Axis]) -> LayerScale:
        return replace(self, space=change(self.space))


@dataclass(frozen=True)
class Parameter(Operation):
    """Any other tensor: gains inside attention, biases per head and distance, a temperature.

    Attributes:
        offset: values minus stored values.
        spans_heads: whether it is the gain of an RMSNorm over all heads together.
    """

    name: str
    axes: Axes
    part: str = ""
    offset: float = 0.0
    spans_heads: bool = False

    def tensors(self) -> dict[str, Axes]:
        return {self.name: self.axes}

    def replace(self, change: Callable[[Axis], Axis]) -> Parameter:
        return replace(self, axes=tuple(map(change, self.axes)))


@dataclass(frozen=True)
class Table(Operation):
    """A parameter that is added to or concatenated with the stream. Its last axis writes; the others are fixed."""

    name: str
    rows: Axes
    writes: Axis
    part: str = "embeddings"

    def tensors(self) -> dict[str, Axes]:
        return {self.name: (*self.rows, self.writes)}

    def replace(self, change: Callable[[Axis], Axis]) -> Table:
        return replace(self, writes=change(self.writes))


@dataclass(frozen=True)
class Embedding(Operation):
    """A module that looks up rows, for tokens or positions. Its weight is [rows, writes].

    Attributes:
        scaled: whether the rows are multiplied by the root of their width, as in Gemma.
    """

    name: str
    rows: Space
    writes: Axis
    part: str = "embeddings"
    scaled: bool = False

    def tensors(self) -> dict[str, Axes]:
        return {f"{self.name}.weight": (~self.rows, self.writes)}

    def replace(self, change: Callable[[Axis], Axis]) -> Embedding:
        return replace(self, writes=change(self.writes))


@dataclass(frozen=True)
class Junction(Operation):
    """A residual addition `space = skip + factor * branch`. The units of all three correspond one to one."""

    space: Space
    skip: Space
    branch: Space
    part: str = ""
    factor: float = 1.0

    def tensors(self) -> dict[str, Axes]:
        return {}

    def spaces(self) -> Iterator[Space]:
        yield self.space

    def replace(self, change: Callable[[Axis], Axis]) -> Junction:
        names = ("space", "skip", "branch")
        return replace(self, **{name: change(getattr(self, name)) for name in names})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Concatenation(Junction):
    """A stream with the tokens of the skip and those of the branch."""


Writer = Linear | Table | Embedding
Op = Writer | Packed | Norm | LayerScale | Parameter | Junction
