"""Which linear maps are fitted together, in the order of the forward pass, and which of their units can be chosen."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from transfuse.activations.hooks import HookPoint
from transfuse.network.space import Axis, Group, Space, leaves, pieces
from transfuse.network.spec import Junction, LayerScale, Linear, Norm, Spec


@dataclass(frozen=True)
class Stage:
    """Linear maps that read the same values, and where the stream shows that their outputs are added to."""

    linears: tuple[Linear, ...]
    stream: tuple[HookPoint, ...]

    def written(self) -> list[HookPoint]:
        """Where it shows what each of them writes."""
        return [HookPoint(linear.name, "output", linear.writes) for linear in self.linears]

    def names(self) -> list[str]:
        """The modules it looks at."""
        return [*(linear.name for linear in self.linears), *(probe.name for probe in self.stream)]


@dataclass(frozen=True, eq=False)
class SelectableUnits:
    """Interchangeable units, hidden ones or heads, that nothing but the linear maps of one stage writes, and that
    nothing but `reader` reads.

    Attributes:
        written: by linear map, which of its outputs belong to each unit.
        read: which of the reader's inputs do.
    """

    reader: Linear
    written: dict[str, Int[Tensor, "unit entry"]]
    read: Int[Tensor, "unit entry"]


def stages(spec: Spec, model: nn.Module, leave: Collection[str] = ()) -> list[Stage]:
    """The linear maps in the order of the forward pass, but for those that read pixels, share a matrix or are left."""
    found: list[Stage] = []
    places = {name: values.data_ptr() for name, values in model.state_dict().items()}
    shared = Counter(places.values())
    for op in spec.linears():
        if op.name in leave or len(op.reads) != 1 or op.stacked or shared[places[op.matrix]] > 1:
            continue
        last = found[-1].linears[0] if found else None
        stream = tuple(_drifts(spec, op.writes))
        alike = last and (last.reads, last.norm, last.part) == (op.reads, op.norm, op.part)
        if alike and not stream and not found[-1].stream and op.part != "head":  # heads may read other tokens each
            found[-1] = Stage((*found[-1].linears, op), ())
        else:
            found.append(Stage((op,), stream))
    return found


def _drifts(spec: Spec, writes: Axis) -> Iterator[HookPoint]:
    """Where the stream shows that a branch is added to; nothing where a norm or a scale stands in between."""
    joined = next((op for op in spec.ops if type(op) is Junction and op.branch == writes), None)
    between = (op for op in spec.ops if isinstance(op, Norm | LayerScale))
    if joined and not any(op.space == writes for op in between):
        yield from _shown(spec, joined.skip)


def _shown(spec: Spec, space: Space) -> Iterator[HookPoint]:
    """A joined space, at what reads it; as the sum of its parts, where nothing does."""
    for op in spec.ops:
        if isinstance(op, Norm) and op.space == space:
            yield HookPoint(op.name, "input" if spec.readers(op) else "output", space)
            return
    for op in spec.linears():
        if op.norm is None and op.reads == (space,):
            yield HookPoint(op.name, "input", space)
            return
    for op in spec.ops:
        if isinstance(op, Junction) and op.space == space:
            yield from _shown(spec, op.skip)
            yield from _shown(spec, op.branch)
            return
        if isinstance(op, Linear) and op.writes == space:
            yield HookPoint(op.name, "output", space)


def selectable_units(spec: Spec, stage: Stage, later: Sequence[Stage]) -> SelectableUnits | None:
    """The units that a stage writes, if they stand for nothing but themselves."""
    root = _root(stage.linears[0].writes)
    if root is None or root.group not in (Group.PERMUTATION, Group.SIGNED):
        return None
    touching = [op for op in spec.ops if any(root in (each, *each.ancestors()) for each in _spaces(op))]
    others = [op for op in touching if op not in stage.linears]
    reader = next((linear for each in later for linear in each.linears if [linear] == others), None)
    if reader is None or reader.norm or len(touching) < len(stage.linears) + 1:
        return None
    read = _units(root, reader.reads[0])
    written = {linear.name: _units(root, linear.writes) for linear in stage.linears}
    whole = all(each is not None for each in (read, *written.values()))
    return SelectableUnits(reader, written, read) if whole else None  # type: ignore[arg-type]


def _spaces(op: object) -> Iterator[Space]:
    if isinstance(op, Junction):
        yield op.space
    else:
        for axes in op.tensors().values():  # type: ignore[attr-defined]
            for axis in axes:
                yield from axis.spaces()


def _root(axis: Axis) -> Space | None:
    """The space whose units an axis is made of, outermost."""
    found = {leaves(term)[0][0] for _, term in pieces(axis)}
    return found.pop() if len(found) == 1 else None


def _units(root: Space, axis: Axis) -> Int[Tensor, "unit entry"] | None:
    """Which entries along an axis belong to each unit of `root`; None where some belong to none."""
    if _root(axis) != root:
        return None
    return torch.cat([torch.tensor(entries).reshape(root.units, -1) for entries, _ in pieces(axis)], 1)
