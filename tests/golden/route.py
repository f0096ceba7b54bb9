"""Where the authors' code finds and applies maps when parts are kept: it finds none for them, and drops others."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from transfuse.config.flow_options import FlowOptions
from transfuse.network.operations import Concatenation, Junction, Norm, Op, Writer
from transfuse.network.space import Axis, Group
from transfuse.network.spec import Spec

EMBEDDINGS, ATTENTION, FFN, NORMS, HEAD = "embeddings", "attention", "ffn", "norms", "head"


class WidthError(Exception):
    """A part is kept that has another width in the anchor than in the source."""


@dataclass(frozen=True)
class Route:
    """Say where maps are found and where they stop.

    Attributes:
        spec: the declaration that the flow goes through.
        withheld: names of spaces whose maps are found but not applied.
        still: names of spaces that no map reaches.
    """

    spec: Spec
    withheld: frozenset[str] = frozenset()
    still: frozenset[str] = frozenset()


def lead_around(options: FlowOptions, spec: Spec) -> Route:
    """Lead the flow around the parts that are kept.

    Behind kept embeddings no map enters the first block, whose first junction passes the branch's map on. A kept
    attention or feed-forward layer passes on the map that it reads. A kept head stops the maps of the last block.
    """
    keep = set[str](options.keep)
    withheld, stopped = _withheld(keep, spec)
    if not keep & {EMBEDDINGS, ATTENTION, FFN} and not stopped:
        return Route(spec, withheld, frozenset())
    still: set[str] = set()  # spaces without a map
    passed: set[str] = set()  # what a kept branch writes
    attended = {space.name for op in spec.linears() if op.part == ATTENTION for space in op.writes.spaces()}
    ops: list[Op] = []
    for op in spec.ops:
        if isinstance(op, Writer) and op.part in keep & {EMBEDDINGS, ATTENTION, FFN}:
            (still if op.part == EMBEDDINGS else passed).update(space.name for space in op.writes.spaces())
        elif not isinstance(op, Junction):
            ops.append(op)
        elif (joined := _joined(op, options.policy, still, passed, stopped, attended)) is None:
            still.add(op.space.name)
        else:
            ops.append(joined)
    fixed = frozenset(still | passed)

    def fix(axis: Axis) -> Axis:
        return axis.replace(lambda space: replace(space, group=Group.FIXED) if space.name in fixed else space)

    return Route(replace(spec, ops=tuple(op.replace(fix) for op in ops)), withheld, frozenset(still))


def _withheld(keep: set[str], spec: Spec) -> tuple[frozenset[str], frozenset[str]]:
    """Name, for a kept head, the spaces whose maps are not applied, and the branch that has none at its junction."""
    junctions = [op for op in spec.ops if type(op) is Junction]
    if HEAD not in keep or not junctions:
        return frozenset(), frozenset()
    last = junctions[-1]
    if FFN not in keep:
        return frozenset({last.branch.name, last.space.name}), frozenset()
    if ATTENTION in keep or len(junctions) < 2:
        return frozenset(), frozenset()
    attention = frozenset({junctions[-2].branch.name})
    return attention, attention


def _joined(
    op: Junction, policy: str, still: set[str], passed: set[str], stopped: frozenset[str], attended: set[str]
) -> Junction | None:
    """Return the junction as the maps that arrive make it; None: no map leaves it."""
    skip, branch = (None if space.name in still else space for space in (op.skip, op.branch))
    if op.branch.name in passed:
        branch = skip
    if op.branch.name in stopped:
        branch = None if policy == "branch" else skip
        skip = branch
    if skip and branch:
        return replace(op, skip=skip, branch=branch)
    if skip is None and policy == "skip" and op.branch.name not in attended:
        return None
    one = skip or branch
    return Concatenation(op.space, one, one, op.part) if one else None


def tensors_of_source(options: FlowOptions, spec: Spec) -> dict[str, str]:
    """Return the tensors that the fused model has from the source alone, each with its name in the source.

    The authors' code keeps these parts of model 0, which is the source. It also puts the norm behind attention in front
    of it.
    """
    keep = set(options.keep)
    names = {name: name for part in keep & {ATTENTION, FFN} for name in spec.part(part)}
    return names | dict(_norms(spec)) if NORMS in keep else names


def _norms(spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield the norms of every block, not the one in front of the head, with the source's tensors that they are."""
    norms = [op for op in spec.ops if isinstance(op, Norm) and op.part == NORMS]
    parts = {norm.name: {op.part for op in spec.readers(norm)} for norm in norms}
    for place, norm in enumerate(norms):
        before = parts[norm.name] == {ATTENTION} and place + 1 < len(norms) and parts[norms[place + 1].name] == {FFN}
        if not parts[norm.name] or parts[norm.name] & {ATTENTION, FFN}:
            yield from zip(norm.tensors(), norms[place + before].tensors(), strict=True)


def check_widths(options: FlowOptions, route: Route, spec: Spec, target: Spec) -> None:
    """Raise `WidthError` where a part is kept that has another shape in the anchor.

    Args:
        spec: the source's declaration, opened; `target` is the anchor's.
    """
    source_spaces, anchor_spaces = spec.spaces(), target.spaces()
    sizes = [
        (name, source_spaces[name].units, anchor_spaces[name].units)
        for name in sorted(route.withheld | route.still)
        if name in source_spaces
    ]
    for name in sorted(tensors_of_source(options, spec)):
        axes = zip(spec.tensors()[name], target.tensors()[name], strict=True)
        sizes += [(name, axis.size, other.size) for axis, other in axes]
    for name, source, anchor in sizes:
        if source != anchor:
            raise WidthError(
                f"keep {', '.join(options.keep)}: no map is applied to {name}, which has {source} units in the source"
                f" and {anchor} in the anchor"
            )


def widened(spec: Spec, target: Spec) -> set[str]:
    """Name the spaces that a layer writes wider than it reads, in either model, once a map reaches the layer."""
    written = {op.name: op for op in target.linears()}
    return {
        space.name
        for op in spec.linears()
        for space in op.writes.spaces()
        if all(space.free for axis in op.reads for space in axis.spaces())
        and any(each.writes.size > sum(axis.size for axis in each.reads) for each in (op, written[op.name]))
    }
