"""Alignment by the network's own symmetries: the best element of every space's exact group.

A space with others inside it (heads with their channels) is a nested problem: the score of pairing two heads is that
of the best maps of their channels; the pairing is an assignment over those scores.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.align.evidence import Probe, inputs, outputs, streams
from transfuse.align.groups import best, best_score
from transfuse.merge.apply import carry
from transfuse.network.space import Axis, Group, Product, Space, bare
from transfuse.network.spec import Spec
from transfuse.transport.cost import Moments, centre, moments, standardise
from transfuse.transport.maps import Map, Permutation
from transfuse.transport.solve import Match

Sight = tuple[Axis, Moments]
Evidence = Callable[[Space, Mapping[str, Map]], Sequence[Sight]]
SWEEPS = 30  # rounds of coordinate descent, at most; it stops where the total cost no longer falls


def exact(spec: Spec, evidence: Evidence, start: Mapping[str, Match] = MappingProxyType({})) -> dict[str, Match]:
    """One match per free space of a symmetric declaration, by coordinate descent over the outermost spaces.

    Args:
        evidence: moments of every axis that mentions a space, given the maps found so far.
        start: matches to descend from; none: the first round sees only what does not depend on other maps.
    """
    spaces = list(spec.spaces().values())
    found = dict(start)
    before = float("inf")
    for _ in range(SWEEPS):
        for root in (space for space in spaces if space.within is None):
            maps = {name: match.map for name, match in found.items()}
            inner = [space for space in spaces if space.within == root]
            found |= _solve(root, inner, evidence(root, maps))
        total = sum(match.cost for match in found.values())
        if total >= before - 1e-9:
            break
        before = total
    return found


def _solve(root: Space, inner: Sequence[Space], sights: Sequence[Sight]) -> dict[str, Match]:
    """The best map of one space and of those inside it."""
    score = torch.zeros(root.units, root.units, dtype=torch.float64)
    blocks: dict[str, Tensor] = {}  # by inner space: [root source, root target, inner source, inner target]
    for axis, seen in sights:
        if isinstance(axis, Space):
            score = score + seen.cross
            continue
        within, cross = _blocks(axis, root, seen.cross)
        if within.free:
            blocks[within.name] = blocks.get(within.name, 0) + cross
        else:
            score = score + best_score(within.group, cross)
    for space in (space for space in inner if space.name in blocks):
        score = score + best_score(space.group, blocks[space.name])
    chosen = best(root.group, score)
    size = sum(float(seen.square_x.sum() + seen.square_y.sum()) for _, seen in sights)
    gain = float((chosen.push(torch.eye(root.units, dtype=torch.float64)) * score).sum())
    cost = max(0.0, 1 - 2 * gain / size) if size else 1.0
    found = {root.name: Match(chosen, cost)}
    for space in (space for space in inner if space.name in blocks):
        assert isinstance(chosen, Permutation), "only units that are permuted hold others"
        paired = blocks[space.name][chosen.index, torch.arange(root.units)]
        found[space.name] = Match(best(space.group, paired), cost)
    return found


def _blocks(axis: Axis, root: Space, cross: Float[Tensor, "source target"]) -> tuple[Space, Float[Tensor, "h g u v"]]:
    """The cross-moment of a product axis, one block per pair of the root's units."""
    if not (isinstance(axis, Product) and len(axis.factors) == 2 and axis.factors[0] == root):
        raise NotImplementedError(f"no nested solution for the layout {axis}")
    inner = bare(axis.factors[1])
    assert isinstance(inner, Space)
    shape = (root.units, inner.units) * 2
    return inner, cross.reshape(shape).permute(0, 2, 1, 3)


def probes(spec: Spec) -> list[Probe]:
    """The stream behind every norm; what linear maps write and read beside the stream."""
    streams_ = {axis.name for norm in spec.norms() for axis in norm.space.spaces()}
    beside = [
        probe for probe in (*outputs(spec), *inputs(spec))
        if streams_.isdisjoint(space.name for space in probe.axis.spaces())
    ]  # fmt: skip
    return [*streams(spec), *beside]


def from_activations(seen: Mapping[Probe, Moments]) -> Evidence:
    """Correlations for spaces of permutations, covariances for spaces of rotations; every probe counts the same."""
    sights = [(bare(probe.axis), _even(_see(bare(probe.axis), found))) for probe, found in seen.items()]
    return lambda space, maps: [(axis, found) for axis, found in sights if space in axis.spaces()]


def _see(axis: Axis, found: Moments) -> Moments:
    hard = isinstance(axis, Space) and axis.group is Group.PERMUTATION
    return standardise(found) if hard else centre(found)


def _even(found: Moments) -> Moments:
    energy = found.energy()
    return found.times(1 / energy) if energy else found


def combine(shares: Sequence[tuple[Evidence, float]]) -> Evidence:
    """Several kinds of evidence at once, each scaled to its share of the whole."""

    def look(space: Space, maps: Mapping[str, Map]) -> list[Sight]:
        found: list[Sight] = []
        for evidence, share in shares:
            sights = evidence(space, maps)
            energy = sum(seen.energy() for _, seen in sights)
            found += [(axis, seen.times(share / energy)) for axis, seen in sights] if energy else []
        return found

    return look


def from_weights(spec: Spec, source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Evidence:
    """Weight matching (Git Re-Basin, Ainsworth et al., 2209.04836) over every exact group.

    All tensors that touch a space, the source's carried along their other axes; tensors that touch a space not yet
    found are left out, so that the first sweep starts from the fixed ends: pixels, positions and classes.
    """
    tensors, spaces = spec.tensors(), spec.spaces()

    def look(space: Space, maps: Mapping[str, Map]) -> list[Sight]:
        sought = {name for name, other in spaces.items() if space in (other, other.within)}
        known = {name: chosen for name, chosen in maps.items() if name not in sought}
        return [
            (bare(axis), _unfold(carry(source[name], axes, known), target[name], position))
            for name, axes in tensors.items()
            for position, axis in enumerate(axes)
            if space in axis.spaces() and _ready(axes[:position] + axes[position + 1 :], known)
        ]  # fmt: skip

    return look


def _ready(axes: Iterable[Axis], known: Mapping[str, Map]) -> bool:
    return all(space.name in known for axis in axes for space in axis.spaces() if space.free)


def _unfold(source: Tensor, target: Tensor, position: int) -> Moments:
    return moments(*(tensor.movedim(position, -1).reshape(-1, tensor.shape[position]) for tensor in (source, target)))
