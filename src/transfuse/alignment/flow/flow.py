"""The transport-map flow (Imfeld et al., ICLR 2024): maps found layer by layer, from the input to the output.

The declaration is transformed, not the algorithm: `heads.cross_head` gives each attention projection one flat space
over the full width. A junction has a map of its own, which a policy combines from the two maps that enter it.
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
from transfuse.alignment.flow.policy import ActivationNorms, Policy
from transfuse.alignment.match_store import LazyMaps, MatchStore
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
"""Returns the moments of the units that an operation writes, given the maps so far."""


@dataclass(frozen=True)
class Variant:
    """The choices that the flow leaves open, as functions.

    Attributes:
        transform: transforms the moments of a writer before those of several writers are added up.
        cost: returns the scaled ground cost between two sets of units from their moments.
        solve: returns the match of a space from the ground cost. It gets the space for head-aware plans.
        policy: combines two maps at a junction.
    """

    transform: Callable[[Writer, Moments], Moments]
    cost: Callable[[Moments], Tensor]
    solve: Callable[[Space, Tensor], Match]
    policy: Policy


def flow(
    spec: Spec,
    evidence: Evidence,
    variant: Variant,
    norms: Mapping[str, ActivationNorms] = MappingProxyType({}),
    nested: NestedEvidence = lambda root, maps: (),
    matches: MatchStore | None = None,
    progress: Progress = silent,
) -> MatchStore:
    """Match every free space of a cross-head declaration in the order of the forward pass.

    Args:
        spec: the declaration.
        evidence: returns the moments of the units that an operation writes.
        variant: the flow's functions.
        norms: activation norms of each space that enters a junction, for weighted policies.
        nested: evidence of spaces that enclose others, which are matched by their exact groups.
        matches: where matches are stored, with those of an interrupted run.
        progress: displays progress.
    """
    matches = MatchStore() if matches is None else matches
    maps = LazyMaps(matches)
    for op in progress.track(spec.ops, "aligning"):
        match op:
            case Junction() if op.space.name in matches or not op.space.free:
                continue
            case Concatenation():
                matches[op.space.name] = matches[op.skip.name]
            case Junction():
                matches[op.space.name] = _joined(op, matches, variant.policy, norms)
            case Linear() | Table() | Embedding() if _is_flat(op.writes):
                space = next(op.writes.spaces())
                if space.free and space.name not in matches:
                    writers = [writer for writer in _writers(spec, op.writes) if _inputs_matched(writer, matches)]
                    stats = reduce(add, (variant.transform(writer, evidence(writer, maps)) for writer in writers))
                    matches[space.name] = variant.solve(space, variant.cost(stats))
            case Linear() if not _is_matched(op.writes, matches):
                matches.update(_nested_matches(op, spec, nested, maps))
    return matches


def _joined(op: Junction, matches: MatchStore, policy: Policy, norms: Mapping[str, ActivationNorms]) -> Match:
    """Return the match of a junction."""
    skip, branch = matches[op.skip.name], matches[op.branch.name]
    skip_norms, branch_norms = (norms.get(space.name, torch.ones(1)) for space in (op.skip, op.branch))
    joined = policy(skip.map, branch.map, skip_norms, abs(op.factor) * branch_norms)
    return Match(joined, (skip.cost + branch.cost) / 2)


def _writers(spec: Spec, axis: Axis) -> list[Writer]:
    return [op for op in spec.ops if isinstance(op, Writer) and op.writes == axis]


def _nested_matches(op: Linear, spec: Spec, nested: NestedEvidence, maps: LazyMaps) -> dict[str, Match]:
    """Return the matches of all nested spaces that can be matched now and share the outermost space of `op`."""
    root = _root(op)
    siblings = [other for other in spec.linears() if _root(other) == root and _inputs_matched(other, maps)]
    missing = {space for sibling in siblings for space in sibling.writes.spaces() if space.name not in maps}
    views = [
        (spaces, stats)
        for spaces, stats in nested(root, maps)
        if missing & {*spaces} and all(space in missing or space.name in maps for space in spaces)
    ]
    return solve_one(root, views, maps.get(root.name))


def _is_flat(axis: Axis) -> bool:
    return isinstance(axis, Space) and axis.within is None


def _root(op: Linear) -> Space:
    """Return the outermost space that a linear map writes."""
    return next(op.writes.spaces()).root


def _is_matched(axis: Axis, matched: Mapping[str, object]) -> bool:
    return all(space.name in matched for space in axis.spaces() if space.free)


def _inputs_matched(op: Writer, matched: Mapping[str, object]) -> bool:
    """Return whether everything that an operation reads is matched. For a tied head, it is not yet."""
    return all(_is_matched(axis, matched) for axis in (op.reads if isinstance(op, Linear) else ()))


def from_activations(
    statistics: Mapping[HookPoint, Moments], fallback: Evidence, values: Values = "values"
) -> Evidence:
    """Match by what an operation writes, or the values of attention by what the next linear map reads.

    Args:
        statistics: the moments of each hook point.
        fallback: evidence of operations without a module to record (experts).
        values: whether values are matched by the projection's output or by the attention context.
    """
    written = {_layers(point.name): point for point in statistics if point.side != "input"}
    contexts = {str(point.axis): point for point in statistics if point.side == "input"}

    def moments_of(op: Writer, maps: Mapping[str, Map]) -> Moments:
        if _layers(op.name) not in written:
            return fallback(op, maps)
        output = written[_layers(op.name)]
        is_attention = isinstance(op, Linear) and op.part == "attention"
        return statistics[contexts.get(str(op.writes), output) if values == "context" and is_attention else output]

    return moments_of


def _layers(name: str) -> tuple[str, ...]:
    """Return the names of stacked layers in a fixed order."""
    return tuple(sorted(name.split(STACK_SEPARATOR)))


def from_weights(spec: Spec, source: Tensors, target: Tensors) -> Evidence:
    """Match by the weights of each unit; the source's are already mapped along the input."""

    def moments_of(op: Writer, maps: Mapping[str, Map]) -> Moments:
        name, axes = next(iter(op.tensors().items()))
        dim = axes.index(op.writes)
        x, y = (
            tensor.movedim(dim, -1).reshape(-1, tensor.shape[dim])
            for tensor in (transform_tensor(source[name], axes, maps), target[name])
        )
        return moments(x, y)

    return moments_of
