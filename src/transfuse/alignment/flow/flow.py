"""The paper's transport-map flow (Imfeld et al., ICLR 2024): maps found layer by layer, from input to output.

The declaration is transformed, not the algorithm: `heads.cross_head` gives every attention projection one flat space
over the full width, and junctions keep a map of their own, by policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from types import MappingProxyType

import torch
from torch import Tensor

from transfuse.activations.hook_points import STACK_SEPARATOR, HookPoint
from transfuse.alignment.exact.coordinate_descent import solve_one
from transfuse.alignment.exact.evidence import Evidence as NestedEvidence
from transfuse.alignment.flow.policy import Policy, Strength
from transfuse.alignment.match_store import MatchStore
from transfuse.alignment.transform import transform_tensor
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, silent
from transfuse.config.literals import Values
from transfuse.network.operations import Concatenation, Embedding, Junction, Linear, Table, Writer
from transfuse.network.space import Axis, Space
from transfuse.network.spec import Spec
from transfuse.transport.cost import Moments, moments
from transfuse.transport.maps import Map
from transfuse.transport.solve import Match

Evidence = Callable[[Writer, Mapping[str, Map]], Moments]


@dataclass(frozen=True)
class Variant:
    """The flow's free choices, each a function.

    Attributes:
        transform: what is done to a writer's samples before those of several writers are put together.
        cost: from the moments of two sets of units to a ground cost, scaled.
        solve: from the cost of a space's units to a match. Gets the space, for head-aware plans.
        policy: the map that leaves a junction.
    """

    transform: Callable[[Writer, Moments], Moments]
    cost: Callable[[Moments], Tensor]
    solve: Callable[[Space, Tensor], Match]
    policy: Policy


def flow(
    spec: Spec,
    evidence: Evidence,
    variant: Variant,
    strengths: Mapping[str, Strength] = MappingProxyType({}),
    nested: NestedEvidence = lambda root, maps: (),
    shelf: MatchStore | None = None,
    progress: Progress = silent,
) -> MatchStore:
    """One match per free space of a cross-head declaration, in the order of the forward pass.

    Args:
        evidence: moments of what a writer's units look like, given the maps found so far.
        nested: moments of what shows a space with others inside it, or these; such are matched by their exact groups.
        strengths: for weighted policies, mean absolute activation of the anchor's units in every joined space.
        shelf: matches found before, to go on from.
    """
    found = MatchStore() if shelf is None else shelf
    nothing = torch.ones(1)
    for op in progress.track(spec.ops, "aligning"):
        maps = {name: match.map for name, match in found.items()}
        match op:
            case Junction() if op.space.name in found:
                continue
            case Concatenation():
                found[op.space.name] = found[op.skip.name]
            case Junction():
                skip, branch = found[op.skip.name], found[op.branch.name]
                weights = (strengths.get(space.name, nothing) for space in (op.skip, op.branch))
                found[op.space.name] = Match(
                    variant.policy(skip.map, branch.map, *weights), (skip.cost + branch.cost) / 2
                )
            case Linear() | Table() | Embedding() if _simple(op.writes):
                space = next(op.writes.spaces())
                if space.free and space.name not in found:
                    writers = [each for each in spec.ops if isinstance(each, Writer) and each.writes == op.writes]
                    writers = [each for each in writers if _ready(each, found)]
                    seen = reduce(add, (variant.transform(each, evidence(each, maps)) for each in writers))
                    found[space.name] = variant.solve(space, variant.cost(seen))
            case Linear() if not _found(op.writes, found):
                root = _root(op)
                beside = [each for each in spec.linears() if _root(each) == root and _ready(each, found)]
                missing = {space for each in beside for space in each.writes.spaces() if space.name not in found}
                sights = [
                    (spaces, seen)
                    for spaces, seen in nested(root, maps)
                    if missing & {*spaces} and all(space in missing or space.name in found for space in spaces)
                ]
                found.update(solve_one(root, sights, maps.get(root.name)))
    return found


def _found(axis: Axis, found: Mapping[str, Match]) -> bool:
    return all(space.name in found for space in axis.spaces() if space.free)


def _simple(axis: Axis) -> bool:
    return isinstance(axis, Space) and axis.within is None


def _root(op: Linear) -> Space:
    """The outermost space that a linear map writes."""
    return next(op.writes.spaces()).root


def _ready(op: Writer, found: Mapping[str, Match]) -> bool:
    """Whether all that it reads is found: the head that a tied embedding meets again is not."""
    return all(_found(axis, found) for axis in (op.reads if isinstance(op, Linear) else ()))


def from_activations(seen: Mapping[HookPoint, Moments], otherwise: Evidence, values: Values = "values") -> Evidence:
    """What a writer puts out; or, for a space that a linear map reads behind attention, what it reads there.

    Args:
        otherwise: the evidence of a writer that no module shows (experts).
    """
    written = {_unordered(probe.name): probe for probe in seen if probe.side != "input"}
    contexts = {str(probe.axis): probe for probe in seen if probe.side == "input"}

    def look(op: Writer, maps: Mapping[str, Map]) -> Moments:
        if _unordered(op.name) not in written:
            return otherwise(op, maps)
        output = written[_unordered(op.name)]
        attends = isinstance(op, Linear) and op.part == "attention"
        return seen[contexts.get(str(op.writes), output) if values == "context" and attends else output]

    return look


def _unordered(name: str) -> tuple[str, ...]:
    return tuple(sorted(name.split(STACK_SEPARATOR)))


def from_weights(spec: Spec, source: Tensors, target: Tensors) -> Evidence:
    """A writer's rows, the source's carried along its input; each input is a sample."""

    def look(op: Writer, maps: Mapping[str, Map]) -> Moments:
        name, axes = next(iter(op.tensors().items()))
        position = axes.index(op.writes)
        x, y = (
            tensor.movedim(position, -1).reshape(-1, tensor.shape[position])
            for tensor in (transform_tensor(source[name], axes, maps), target[name])
        )
        return moments(x, y)

    return look
