"""The paper's transport-map flow (Imfeld et al., ICLR 2024): maps found layer by layer, from input to output.

The declaration is transformed, not the algorithm: `cross_head` gives every attention projection one flat space over
the full width, and junctions keep a map of their own, by policy.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from transfuse.align.evidence import Probe
from transfuse.align.policy import Policy
from transfuse.merge.apply import carry
from transfuse.network.space import Axis, Product, Space
from transfuse.network.spec import Concatenation, Junction, Linear, Spec, Table
from transfuse.transport.cost import Moments, moments
from transfuse.transport.maps import Map
from transfuse.transport.solve import Match

Writer = Linear | Table
Evidence = Callable[[Writer, Mapping[str, Map]], Moments]


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


def flow(
    spec: Spec, evidence: Evidence, cost: Callable[[Moments], Tensor], solve: Callable[[Tensor], Match], policy: Policy
) -> dict[str, Match]:
    """One match per free space of a cross-head declaration, in the order of the forward pass.

    Args:
        evidence: moments of what a writer's units look like, given the maps found so far.
    """
    found: dict[str, Match] = {}
    maps: dict[str, Map] = {}
    for op in spec.ops:
        match op:
            case Concatenation():
                found[op.space.name] = found[op.skip.name]
            case Junction():
                skip, branch = found[op.skip.name], found[op.branch.name]
                found[op.space.name] = Match(policy(skip.map, branch.map), (skip.cost + branch.cost) / 2)
            case Linear() | Table() if _name(op.writes) not in found and _free(op.writes):
                found[_name(op.writes)] = solve(cost(evidence(op, maps)))
            case _:
                continue
        maps = {name: match.map for name, match in found.items()}
    return found


def _name(axis: Axis) -> str:
    (space,) = axis.spaces()
    return space.name


def _free(axis: Axis) -> bool:
    return all(space.free for space in axis.spaces())


def from_activations(seen: Mapping[Probe, Moments]) -> Evidence:
    """What a writer puts out."""
    by_name = {probe.name: found for probe, found in seen.items()}
    return lambda op, maps: by_name[op.name]


def from_weights(spec: Spec, source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Evidence:
    """A writer's rows, the source's carried along its input; each input is a sample."""

    def look(op: Writer, maps: Mapping[str, Map]) -> Moments:
        name, axes = next(iter(op.tensors().items()))
        position = axes.index(op.writes)
        known = {key: value for key, value in maps.items() if key != _name(op.writes)}
        x, y = (
            tensor.movedim(position, -1).flatten(0, -2)
            for tensor in (carry(source[name], axes, known), target[name])
        )  # fmt: skip
        return moments(x, y)

    return look
