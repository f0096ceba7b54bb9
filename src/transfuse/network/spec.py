"""A network as a list of declarations that reads like its forward pass.

Names are those of the modules in memory; transformers translates them to the names on disk when it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from transfuse.errors import SpecError
from transfuse.network.space import Axis, Diagonal, Space

Axes = tuple[Axis, ...]


@dataclass(frozen=True)
class Tokens:
    """A sequence: `prefix` special tokens, then a grid of patches, row by row; or, with no rows, text of any length."""

    prefix: int
    rows: int = 0
    columns: int = 0


@dataclass(frozen=True)
class Linear:
    """`y = W x + b`; W is [writes, *reads]. `norm` is the norm whose output it reads, if one stands in between.

    Attributes:
        weight: name of W within the module; empty where `name` is the parameter itself.
        transposed: W is stored as [reads, writes] (GPT-2's Conv1D).
        stacked: one such map per unit of this space, W [stacked, writes, reads] (experts).
        part: what a user calls the place: attention, ffn, ...
        prefix_only: of what it puts out, only the special tokens reach the network's output.
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

    @property
    def matrix(self) -> str:
        """The name of W."""
        return f"{self.name}.{self.weight}" if self.weight else self.name

    def tensors(self) -> dict[str, Axes]:
        axes = (self.writes, *(~axis for axis in self.reads))
        axes = axes[::-1] if self.transposed else axes
        stack = (self.stacked,) if self.stacked else ()
        return {self.matrix: (*stack, *axes)} | ({f"{self.name}.{self.bias}": (self.writes,)} if self.bias else {})

    def replace(self, change: Callable[[Axis], Axis]) -> Linear:
        stacked = change(self.stacked) if self.stacked else None
        return replace(self, writes=change(self.writes), reads=tuple(map(change, self.reads)), stacked=stacked)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Norm:
    """A norm over `space`, with a gain.

    Attributes:
        centres: whether it takes the mean away first (LayerNorm) or not (RMSNorm).
        offset: what the stored gain is short of (1 in Gemma, whose gain is 1 + weight).
        shown: whether its output is also an output of the network, so that its gain has to stay.
    """

    name: str
    space: Axis
    centers: bool = True
    bias: str | None = "bias"
    offset: float = 0.0
    part: str = "norms"
    is_output: bool = False

    @property
    def gain(self) -> str:
        """The name of the gain."""
        return f"{self.name}.weight"

    def tensors(self) -> dict[str, Axes]:
        return {self.gain: (Diagonal(self.space),)} | ({f"{self.name}.{self.bias}": (self.space,)} if self.bias else {})

    def replace(self, change: Callable[[Axis], Axis]) -> Norm:
        return replace(self, space=change(self.space))


@dataclass(frozen=True)
class LayerScale:
    """A factor per unit on what the linear map `writer` writes."""

    name: str
    space: Axis
    writer: str
    part: str = "norms"

    def tensors(self) -> dict[str, Axes]:
        return {self.name: (Diagonal(self.space),)}

    def replace(self, change: Callable[[Axis], Axis]) -> LayerScale:
        return replace(self, space=change(self.space))


@dataclass(frozen=True)
class Parameter:
    """Any other tensor: gains inside attention, biases per head and distance, a temperature.

    `offset` is what the stored values are short of.
    """

    name: str
    axes: Axes
    part: str = ""
    offset: float = 0.0

    def tensors(self) -> dict[str, Axes]:
        return {self.name: self.axes}

    def replace(self, change: Callable[[Axis], Axis]) -> Parameter:
        return replace(self, axes=tuple(map(change, self.axes)))


@dataclass(frozen=True)
class Table:
    """A parameter added to or concatenated with the stream: its last axis writes, the others are fixed."""

    name: str
    rows: Axes
    writes: Axis
    part: str = "embeddings"

    def tensors(self) -> dict[str, Axes]:
        return {self.name: (*self.rows, self.writes)}

    def replace(self, change: Callable[[Axis], Axis]) -> Table:
        return replace(self, writes=change(self.writes))


@dataclass(frozen=True)
class Embedding:
    """A module that looks rows up: words, positions. Its weight is [rows, writes]."""

    name: str
    rows: Space
    writes: Axis
    part: str = "embeddings"

    def tensors(self) -> dict[str, Axes]:
        return {f"{self.name}.weight": (~self.rows, self.writes)}

    def replace(self, change: Callable[[Axis], Axis]) -> Embedding:
        return replace(self, writes=change(self.writes))


@dataclass(frozen=True)
class Junction:
    """`space = skip + branch`: units of all three correspond one to one."""

    space: Space
    skip: Space
    branch: Space
    part: str = ""

    def tensors(self) -> dict[str, Axes]:
        return {}

    def replace(self, change: Callable[[Axis], Axis]) -> Junction:
        names = ("space", "skip", "branch")
        return replace(self, **{name: change(getattr(self, name)) for name in names})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Concatenation(Junction):
    """Tokens side by side in one stream: the skip's tokens with the branch's."""


Writer = Linear | Table | Embedding
Op = Writer | Norm | LayerScale | Parameter | Junction


@dataclass(frozen=True)
class Spec:
    """A declared network: operations in the order of the forward pass."""

    family: str
    ops: tuple[Op, ...]
    tokens: Tokens | None = None

    def tensors(self) -> dict[str, Axes]:
        """Axes of every parameter, by name. Raises `SpecError` where one is declared twice."""
        found: dict[str, Axes] = {}
        for op in self.ops:
            for name, axes in op.tensors().items():
                if name in found:
                    raise SpecError(f"{self.family}: tensor {name} is declared twice; remove one declaration")
                found[name] = axes
        return found

    def spaces(self) -> dict[str, Space]:
        """Every free space by name, in order of appearance. Raises `SpecError` where one name means two spaces."""
        found: dict[str, Space] = {}
        for op in self.ops:
            axes = (
                (op.space,) if isinstance(op, Junction) else (axis for axes in op.tensors().values() for axis in axes)
            )
            for space in (space for axis in axes for space in axis.spaces()):
                for each in (*space.ancestors(), space):
                    if found.setdefault(each.name, each) != each:
                        raise SpecError(
                            f"{self.family}: space {each.name} is declared as {each} and {found[each.name]}"
                        )
        return {name: space for name, space in found.items() if space.free}

    def linears(self) -> list[Linear]:
        """The linear maps, in order."""
        return [op for op in self.ops if isinstance(op, Linear)]

    def part(self, part: str) -> set[str]:
        """Names of a part's tensors: embeddings, attention, ffn, head, norms, biases."""
        if part == "biases":
            tables = {op.name for op in self.ops if isinstance(op, Table) and op.name.endswith(".bias")}
            return tables | {f"{op.name}.{op.bias}" for op in self.linears() if op.bias}
        return {name for op in self.ops if op.part == part for name in op.tensors()}

    def norms(self) -> list[Norm]:
        """The norms, in order."""
        return [op for op in self.ops if isinstance(op, Norm)]

    def readers(self, norm: Norm) -> list[Linear]:
        """The linear maps that read a norm's output."""
        return [linear for linear in self.linears() if linear.norm == norm.name]

    def validate(self, shapes: Mapping[str, Iterable[int]]) -> None:
        """Check a checkpoint's tensors against the declaration.

        Raises:
            SpecError: a tensor is missing, undeclared, or of another shape; names tensor, axis, layout and shape.
        """
        declared = self.tensors()
        for name in sorted(declared.keys() - shapes.keys()):
            raise SpecError(f"{self.family}: tensor {name} is declared but the checkpoint has none")
        for name in sorted(shapes.keys() - declared.keys()):
            raise SpecError(
                f"{self.family}: tensor {name} {tuple(shapes[name])} is in the checkpoint but not declared; declare"
                " this variant of the family yourself and pass --spec FILE"
            )
        for name, axes in declared.items():
            shape, layout = tuple(shapes[name]), " x ".join(map(str, axes))
            if len(shape) != len(axes):
                raise SpecError(f"{self.family}: tensor {name} should be [{layout}], found shape {shape}")
            for position, (axis, size) in enumerate(zip(axes, shape, strict=True)):
                if axis.size != size:
                    raise SpecError(
                        f"{self.family}: tensor {name}, axis {position} should be {axis} of size {axis.size}"
                        f" in [{layout}], found shape {shape}"
                    )
