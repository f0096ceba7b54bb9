"""A network declared as a list of operations in the order of its forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transfuse.errors import SpecError
from transfuse.network.operations import Axes, Embedding, Junction, Linear, Norm, Op, Table
from transfuse.network.space import Dual, Product, Space
from transfuse.network.token_layout import Tokens


@dataclass(frozen=True)
class Spec:
    """A declared network, with operations in the order of the forward pass."""

    family: str
    ops: tuple[Op, ...]
    tokens: Tokens | None = None

    def tensors(self) -> dict[str, Axes]:
        """Return the axes of every parameter by name. Raise `SpecError` if one is declared twice."""
        tensors: dict[str, Axes] = {}
        for op in self.ops:
            for name, axes in op.tensors().items():
                if name in tensors:
                    raise SpecError(f"{self.family}: tensor {name} is declared twice; remove one declaration")
                tensors[name] = axes
        return tensors

    def spaces(self) -> dict[str, Space]:
        """Return every free space by name, in order of appearance. Raise `SpecError` if two spaces share a name."""
        return {name: space for name, space in self.all_spaces().items() if space.free}

    def all_spaces(self) -> dict[str, Space]:
        """Return every space by name, those of fixed meaning too. Raise `SpecError` if two spaces share a name."""
        spaces: dict[str, Space] = {}
        for space in (space for op in self.ops for space in op.spaces()):
            for level in (*space.ancestors(), space):
                if spaces.setdefault(level.name, level) != level:
                    raise SpecError(
                        f"{self.family}: space {level.name} is declared as {level} and {spaces[level.name]};"
                        " give one of them another name"
                    )
        return spaces

    def linears(self) -> list[Linear]:
        """Return the linear maps in order."""
        return [op for op in self.ops if isinstance(op, Linear)]

    def has_dual(self, space: Space) -> bool:
        """Return whether a linear map writes the dual of a space, as keys do for the channels of queries."""
        written = [op.writes.factors for op in self.linears() if isinstance(op.writes, Product)]
        return any(isinstance(axis, Dual) and axis.axis == space for factors in written for axis in factors)

    def table_readers(self) -> set[str]:
        """Return the names of linear maps that never read tokens, but only rows of a table that all samples share."""
        tables = {op.writes for op in self.ops if isinstance(op, Table)}
        tokens = {op.writes for op in self.ops if isinstance(op, Linear | Embedding)}
        tokens |= {op.space for op in self.ops if isinstance(op, Junction)}
        return {
            linear.name for linear in self.linears() if tables.issuperset(linear.reads) and not tokens & {*linear.reads}
        }

    def part(self, part: str) -> set[str]:
        """Return the names of the tensors of a part: embeddings, attention, ffn, head, norms or biases."""
        if part == "biases":
            tables = {op.name for op in self.ops if isinstance(op, Table) and op.name.endswith(".bias")}
            return tables | {f"{op.name}.{op.bias}" for op in self.linears() if op.bias}
        return {name for op in self.ops if op.part == part for name in op.tensors()}

    def norms(self) -> list[Norm]:
        """Return the norms in order."""
        return [op for op in self.ops if isinstance(op, Norm)]

    def readers(self, norm: Norm) -> list[Linear]:
        """Return the linear maps that read the output of a norm."""
        return [linear for linear in self.linears() if linear.norm == norm.name]

    def validate(self, shapes: Mapping[str, Iterable[int]]) -> None:
        """Check the tensors of a checkpoint against the declaration.

        Raises:
            SpecError: a tensor is missing, undeclared, or of another shape than its declaration.
        """
        declared = {name: tuple(axis.size for axis in axes) for name, axes in self.tensors().items()}
        for name in sorted(declared.keys() - shapes.keys()):
            raise SpecError(f"{self.family}: tensor {name} is declared but not in the checkpoint")
        for name in sorted(shapes.keys() - declared.keys()):
            raise SpecError(
                f"{self.family}: tensor {name} {tuple(shapes[name])} is in the checkpoint but not declared; declare"
                " this variant of the family yourself and pass --spec FILE"
            )
        for name, expected in declared.items():
            shape = tuple(shapes[name])
            if shape != expected:
                raise SpecError(
                    f"{self.family}: tensor {name} has shape {shape}, but {expected} by declaration and config.json;"
                    " correct the declaration, or the sizes in config.json"
                )
