"""The linear maps that are fitted together, in the order of the forward pass, and the units that can be selected."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from jaxtyping import Int
from torch import Tensor, nn

from transfuse.activations.hook_points import HookPoint
from transfuse.network.axes import axis_terms, leaves
from transfuse.network.operations import Junction, LayerScale, Linear, Norm
from transfuse.network.space import Axis, Space
from transfuse.network.spec import Spec


@dataclass(frozen=True)
class Stage:
    """Linear maps that read the same values and are fitted together.

    Attributes:
        stream: points whose sum is the residual stream that the outputs are added to. Empty if they are not added to
            it directly.
        factor: what the outputs are multiplied by when they are added.
    """

    linears: tuple[Linear, ...]
    stream: tuple[HookPoint, ...]
    factor: float = 1.0

    def output_points(self) -> list[HookPoint]:
        """Return the outputs of the linear maps."""
        return [HookPoint(linear.name, "output", linear.writes) for linear in self.linears]

    def module_names(self) -> list[str]:
        """Return the names of all modules that the fit observes."""
        return [*(linear.name for linear in self.linears), *(point.name for point in self.stream)]


@dataclass(frozen=True, eq=False)
class SelectableUnits:
    """Interchangeable hidden units or heads that one stage writes and only `reader` reads.

    Attributes:
        space: the name of their space.
        outputs: for each linear map of the stage, which of its outputs belong to each unit.
        inputs: which inputs of the reader belong to each unit.
    """

    space: str
    reader: Linear
    outputs: dict[str, Int[Tensor, "unit entry"]]
    inputs: Int[Tensor, "unit entry"]


def stages(spec: Spec, model: nn.Module, untouched: Collection[str] = ()) -> list[Stage]:
    """Return the linear maps in the order of the forward pass, grouped by what they read.

    Maps that read pixels, share a matrix with another op, have no module, or are `untouched` are left out.
    """
    result: list[Stage] = []
    addresses = {name: values.data_ptr() for name, values in model.state_dict().items()}
    sharing = Counter(addresses.values())
    for op in spec.linears():
        if op.name in untouched or len(op.reads) != 1 or op.stacked or not op.observable:
            continue
        if sharing[addresses[op.matrix]] > 1:
            continue
        previous = result[-1].linears[0] if result else None
        stream, factor = joined_stream(spec, op)
        same = previous and (previous.reads, previous.norm, previous.part) == (op.reads, op.norm, op.part)
        if same and not stream and not result[-1].stream and op.part != "head":  # heads may read different tokens
            result[-1] = Stage((*result[-1].linears, op), ())
        else:
            result.append(Stage((op,), stream, factor))
    return result


def selectable_units(spec: Spec, stage: Stage, later: Sequence[Stage]) -> SelectableUnits | None:
    """Return the units that a stage writes, or None if they cannot be selected independently.

    Args:
        later: the stages after this one, among which the reader must be.
    """
    root = root_space(stage.linears[0].writes)
    if root is None or not root.group.permutes:
        return None
    users = [op for op in spec.ops if any(root in (space, *space.ancestors()) for space in op.spaces())]
    others = [op for op in users if op not in stage.linears]
    reader = next((linear for other in later for linear in other.linears if [linear] == others), None)
    if reader is None or reader.norm or len(users) < len(stage.linears) + 1:
        return None
    inputs = entries_by_unit(root, reader.reads[0])
    outputs = {linear.name: entries_by_unit(root, linear.writes) for linear in stage.linears}
    complete = all(entries is not None for entries in (inputs, *outputs.values()))
    return SelectableUnits(root.name, reader, outputs, inputs) if complete else None  # type: ignore[arg-type]


def joined_stream(spec: Spec, writer: Linear) -> tuple[tuple[HookPoint, ...], float]:
    """Return points whose sum is the stream that a branch is added to, and the factor by which it is multiplied.

    There are no points if a norm or a scale stands between the branch and the stream, or if nothing shows the stream.

    Args:
        writer: the linear map that writes the branch.
    """
    branch = writer.writes
    junction = next((op for op in spec.ops if type(op) is Junction and op.branch == branch), None)
    scaled = any(op.space == branch for op in spec.ops if isinstance(op, Norm | LayerScale))
    if junction is None or scaled or junction.factor == 0:
        return (), 1.0
    return tuple(_stream_points(spec, junction.skip, writer.name)), junction.factor


def _stream_points(spec: Spec, space: Space, writer: str) -> list[HookPoint]:
    """Return a point that shows a space of the stream, or the points of its summands if nothing reads it.

    An encoder and a decoder begin with the same space, that of the tokens. The norm whose name is most like that of the
    writer is in its stack, and shows its stream.

    Args:
        writer: the name of the linear map whose output is added to the stream.
    """
    norms = [op for op in spec.ops if isinstance(op, Norm) and op.space == space and op.on_tokens]
    if norms:
        norm = max(norms, key=lambda norm: shared_parts(norm.name, writer))  # the first of several
        return [HookPoint(norm.name, "input" if spec.readers(norm) else "output", space)]
    for linear in spec.linears():
        if linear.norm is None and linear.reads == (space,):
            return [HookPoint(linear.name, "input", space)]
    for op in spec.ops:
        if isinstance(op, Junction) and op.space == space:
            skip, branch = (_stream_points(spec, each, writer) for each in (op.skip, op.branch))
            return [*skip, *branch] if op.factor == 1 else []
        if isinstance(op, Linear) and op.writes == space:
            return [HookPoint(op.name, "output", space)]
    return []


def shared_parts(first: str, second: str) -> int:
    """Return how many parts of two names are the same from the start."""
    pairs = zip(first.split("."), second.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def root_space(axis: Axis) -> Space | None:
    """Return the outermost space of an axis, or None if its terms have different ones."""
    roots = {leaves(term)[0][0] for _, term in axis_terms(axis)}
    return roots.pop() if len(roots) == 1 else None


def entries_by_unit(root: Space, axis: Axis) -> Int[Tensor, "unit entry"] | None:
    """Return the entries along an axis that belong to each unit of `root`, or None if some belong to no unit."""
    if root_space(axis) != root:
        return None
    return torch.cat([torch.tensor(entries).reshape(root.units, -1) for entries, _ in axis_terms(axis)], 1)


def widest_input(todo: Sequence[Stage]) -> int:
    """Return the largest number of units that a linear map reads; 0 without any."""
    return max((linear.reads[0].size for stage in todo for linear in stage.linears), default=0)
