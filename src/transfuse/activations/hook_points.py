"""Points of a model where the units of a space can be observed."""

from dataclasses import dataclass
from typing import Literal

from transfuse.network.operations import Embedding, Linear, Op, Table, Writer
from transfuse.network.space import Axis
from transfuse.network.spec import Spec

STACK_SEPARATOR = "|"  # separates the names of layers that are stacked into one


@dataclass(frozen=True)
class HookPoint:
    """The input or output of a module, or a parameter, whose last axis is `axis`.

    Attributes:
        name: name of the linear map, module or parameter; several names, separated by `|`, for a stacked layer.
        side: which of the module's values the point is, or that it is a parameter.
        prefix_only: whether only the special tokens reach the output of the network from here.
        with_cross: whether the products between both models' units are needed, besides sums and squares.
        projected_from: the input of the linear map, if its moments are cheaper to collect than those of the output.
    """

    name: str
    side: Literal["input", "output", "parameter"]
    axis: Axis
    prefix_only: bool = False
    with_cross: bool = True
    projected_from: "HookPoint | None" = None

    @property
    def is_free(self) -> bool:
        """Whether the axis has a space with interchangeable units."""
        return self.axis.is_free

    def layer_names(self) -> list[str]:
        """Return the names of the linear maps that are concatenated at this point, in the order of the units."""
        return self.name.split(STACK_SEPARATOR)


def output_points(spec: Spec) -> list[HookPoint]:
    """Return the outputs of all linear maps, embeddings and tables, before any non-linearity."""
    return [_output_point(op) for op in spec.ops if isinstance(op, Writer) and _is_observable(op)]


def input_points(spec: Spec) -> list[HookPoint]:
    """Return the inputs of linear maps without a norm in front: activated hidden units and attention contexts."""
    return [
        HookPoint(op.name, "input", op.reads[0])
        for op in spec.linears()
        if op.norm is None and len(op.reads) == 1 and _is_observable(op)
    ]


def stream_points(spec: Spec) -> list[HookPoint]:
    """Return the outputs of all norms, which show the residual stream."""
    return [HookPoint(norm.name, "output", norm.space) for norm in spec.norms()]


def _output_point(op: Writer) -> HookPoint:
    match op:
        case Table():
            return HookPoint(op.name, "parameter", op.writes)
        case Embedding():
            return HookPoint(op.name, "output", op.writes)
        case Linear():
            return HookPoint(op.name, "output", op.writes, op.prefix_only, projected_from=_narrower_input(op))


def _narrower_input(op: Linear) -> HookPoint | None:
    """Return the input of a linear map that writes more units than it reads.

    A map that writes as many units as it reads counts too if it reads a norm, because other maps read the same input.
    """
    if len(op.reads) != 1 or op.name.endswith("]"):  # one of several maps that share a module
        return None
    reads = op.reads[0]
    if op.norm and op.writes.size >= reads.size:
        return HookPoint(op.norm, "output", reads, op.prefix_only)
    if op.writes.size > reads.size:
        return HookPoint(op.name.split(STACK_SEPARATOR)[0], "input", reads, op.prefix_only)
    return None


def _is_observable(op: Op) -> bool:
    """Return whether a module shows what the op writes. A stack of experts is one parameter, which shows no expert."""
    return not isinstance(op, Linear) or (op.stacked is None and op.observable)
