"""The paper's transport-map flow (Imfeld et al., ICLR 2024): maps found layer by layer, from input to output.

The declaration is transformed, not the algorithm: `cross_head` gives every attention projection one flat space over
the full width, and junctions keep a map of their own, by policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from types import MappingProxyType

import torch
from torch import Tensor

from transfuse.align.evidence import Probe
from transfuse.align.policy import Policy, Strength
from transfuse.align.stack import MARK
from transfuse.choices import Values
from transfuse.merge.apply import carry
from transfuse.network.space import Dual, Product, Space, bare
from transfuse.network.spec import Concatenation, Embedding, Junction, Linear, Spec, Table, Writer
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


def cross_head(spec: Spec) -> Spec:
    """Attention as the paper treats it: Q, K and V each one space over the concatenated heads; V's reaches W_O."""
    flat: dict[str, Space] = {}
    ops = []
    for op in spec.ops:
        if isinstance(op, Linear) and isinstance(op.writes, Product):
            space = Space(op.name, op.writes.size)
            flat[str(op.writes)] = space
            op = replace(op, writes=space)
        elif isinstance(op, Linear):
            op = replace(op, reads=tuple(flat.get(str(axis), axis) for axis in op.reads))
        ops.append(op)
    return replace(spec, ops=tuple(ops))


def head_counts(spec: Spec) -> dict[str, int]:
    """How many heads lie in the flat space of each attention projection, by the name `cross_head` gives it."""
    found = {}
    for op in spec.linears():
        if isinstance(op.writes, Product):
            outer, inner = op.writes.factors[0], bare(op.writes.factors[-1])
            assert isinstance(inner, Space)
            found[op.name] = found[f"{inner.name}.shared"] = outer.size
    return found


def shared_queries(spec: Spec) -> Spec:
    """One map for queries and keys, which meet each other: from the evidence of both (`eq_t_map` in the paper's code).

    `spec` is as a family declares it; the result goes on to `cross_head`.
    """
    meeting: dict[str, Space] = {}
    ops = []
    for op in spec.ops:
        if isinstance(op, Linear) and isinstance(op.writes, Product):
            inner = bare(op.writes.factors[-1])
            if isinstance(inner, Space) and _met_by_a_dual(spec, inner):
                shared = Space(f"{inner.name}.shared", op.writes.size)
                op = replace(op, writes=meeting.setdefault(inner.name, shared))
        ops.append(op)
    return replace(spec, ops=tuple(ops))


def _met_by_a_dual(spec: Spec, space: Space) -> bool:
    return any(
        isinstance(factor, Dual) and factor.axis == space
        for op in spec.linears() if isinstance(op.writes, Product) for factor in op.writes.factors
    )  # fmt: skip


def flow(
    spec: Spec, evidence: Evidence, variant: Variant, strengths: Mapping[str, Strength] = MappingProxyType({})
) -> dict[str, Match]:
    """One match per free space of a cross-head declaration, in the order of the forward pass.

    Args:
        evidence: moments of what a writer's units look like, given the maps found so far.
        strengths: for weighted policies, mean absolute activation of the anchor's units in every joined space.
    """
    found: dict[str, Match] = {}
    nothing = torch.ones(1)
    for op in spec.ops:
        match op:
            case Concatenation():
                found[op.space.name] = found[op.skip.name]
            case Junction():
                skip, branch = found[op.skip.name], found[op.branch.name]
                weights = (strengths.get(space.name, nothing) for space in (op.skip, op.branch))
                found[op.space.name] = Match(
                    variant.policy(skip.map, branch.map, *weights), (skip.cost + branch.cost) / 2
                )
            case Linear(writes=Space() as space) | Table(writes=Space() as space) | Embedding(writes=Space() as space):
                if space.name in found or not space.free:
                    continue
                writers = [
                    each for each in spec.ops
                    if isinstance(each, Writer) and each.writes == space and _ready(each, found)
                ]  # fmt: skip
                maps = {name: match.map for name, match in found.items()}
                seen = reduce(add, (variant.transform(each, evidence(each, maps)) for each in writers))
                found[space.name] = variant.solve(space, variant.cost(seen))
    return found


def _ready(op: Writer, found: Mapping[str, Match]) -> bool:
    """Whether all that it reads is found: the head that a tied embedding meets again is not."""
    reads = op.reads if isinstance(op, Linear) else ()
    return all(space.name in found for axis in reads for space in axis.spaces() if space.free)


def from_activations(seen: Mapping[Probe, Moments], values: Values = "values") -> Evidence:
    """What a writer puts out; or, for a space that a linear map reads behind attention, what it reads there."""
    written = {_unordered(probe.name): found for probe, found in seen.items() if probe.side != "input"}
    contexts = {str(probe.axis): found for probe, found in seen.items() if probe.side == "input"}

    def look(op: Writer, maps: Mapping[str, Map]) -> Moments:
        output = written[_unordered(op.name)]
        attends = isinstance(op, Linear) and op.part == "attention"
        return contexts.get(str(op.writes), output) if values == "context" and attends else output

    return look


def _unordered(name: str) -> tuple[str, ...]:
    return tuple(sorted(name.split(MARK)))


def from_weights(spec: Spec, source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Evidence:
    """A writer's rows, the source's carried along its input; each input is a sample."""

    def look(op: Writer, maps: Mapping[str, Map]) -> Moments:
        name, axes = next(iter(op.tensors().items()))
        position = axes.index(op.writes)
        x, y = (
            tensor.movedim(position, -1).flatten(0, -2)
            for tensor in (carry(source[name], axes, maps), target[name])
        )  # fmt: skip
        return moments(x, y)

    return look
