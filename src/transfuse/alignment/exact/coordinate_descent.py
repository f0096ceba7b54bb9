"""Alignment by the network's own symmetries: the best element of every space's exact group, each given the others."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.activations.hooks import HookPoint, inputs, outputs, streams
from transfuse.alignment.exact.nested_assignment import Term, solve
from transfuse.alignment.match_store import SolverState
from transfuse.alignment.transform import transform_tensor_dict
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.distributed import process_group
from transfuse.base.lazy import Tensors
from transfuse.base.progress import Progress, silent
from transfuse.network.space import Axis, Group, Mode, Space, bare, leaves
from transfuse.network.spec import Spec
from transfuse.transport.cost import Moments, centre, moments, standardise
from transfuse.transport.maps import Map
from transfuse.transport.solve import Match

View = tuple[tuple[Space, ...], Moments]  # a space and what lies within it, in memory order, as both models show it
Evidence = Callable[[Space, Mapping[str, Map]], Iterable[View]]
MAX_ROUNDS = 30  # rounds of coordinate descent, at most
REMEMBERED = 2**28  # bytes of evidence that is kept from one round to the next
TOLERANCE = 1e-3  # it ends where a round takes less than this share of the cost away


def coordinate_descent(
    spec: Spec,
    evidence: Evidence,
    start: Mapping[str, Match] = MappingProxyType({}),
    store: Store = NO_STORE,
    progress: Progress = silent,
    nothing: float = 0.0,
) -> dict[str, Match]:
    """One match per free space of a symmetric declaration, by coordinate descent over the outermost spaces.

    Args:
        evidence: moments of everything that shows a space or what lies within it, given the maps found so far.
        start: matches to descend from; none: the first round sees only what does not depend on other maps.
        store: where now and then all is kept that a descent that was cut short goes on from.
        nothing: mean cost of a match that is only rounding; it ends there, too.
    """
    group = process_group()
    todo = side_by_side(spec, group.count)
    whole, part = (
        SolverState(store, "descent"),
        SolverState(store, f"descent by {group.count}"),
    )  # whose turns it counts
    found, seen = whole.load() or part.load() or (dict(start), {"solved": 0, "costs": [], "ended": False})
    solved, costs, ended = seen["solved"], seen["costs"], seen["ended"]

    def status() -> str:
        share = f", {costs[-1] / max(len(found), 1):.3f} of the difference left" if costs else ""
        return f"aligning, round {solved // len(todo) + 1}{share}"

    for turn in progress.track(range(solved, 0 if ended else MAX_ROUNDS * len(todo)), status):
        maps = {name: match.map for name, match in found.items()}
        mine = [solve_one(root, evidence(root, maps)) for root in group.shard(todo[turn % len(todo)])]
        for theirs in group.all_gather(mine):
            for new in theirs:
                found |= new
        solved += 1
        if solved % len(todo) == 0:
            costs.append(sum(match.cost for match in found.values()))
            settled = len(costs) > 1 and costs[-1] >= costs[-2] * (1 - TOLERANCE)
            ended = settled or costs[-1] <= nothing * len(found)
        (whole if ended else part).save(found, {"solved": solved, "costs": costs, "ended": ended}, ended)
        if ended:
            break
    return found


def side_by_side(spec: Spec, count: int) -> list[list[Space]]:
    """The outermost spaces in groups of at most `count` that no tensor joins: each can be solved without the others."""
    joined: dict[Space, set[Space]] = {}
    for axes in spec.tensors().values():
        tops = {space.root for axis in axes for space, _ in leaves(axis)}
        for top in tops:
            joined.setdefault(top, set()).update(tops)
    found: list[list[Space]] = []
    for root in roots(spec):
        if found and len(found[-1]) < count and joined.get(root, {root}).isdisjoint(found[-1]):
            found[-1].append(root)
        else:
            found.append([root])
    return found


def roots(spec: Spec) -> list[Space]:
    """The outermost spaces that are free or hold free ones."""
    return list(dict.fromkeys(space.root for space in spec.spaces().values()))


def solve_one(root: Space, sights: Iterable[View], given: Map | None = None) -> dict[str, Match]:
    """The best map of one space, unless it is given, and of those within it; what no sight shows is left out."""
    seen: dict[tuple[Space, ...], Moments] = {}
    for spaces, found in sights:  # added up as they come: each is as large as the map
        seen[spaces] = seen[spaces] + found if spaces in seen else found
    if not seen:
        return {}
    terms = [Term(spaces, _unflattened(spaces, found)) for spaces, found in seen.items()]
    maps, gain = solve(root, terms, given)
    size = sum(float(found.square_x.sum() + found.square_y.sum()) for found in seen.values())
    cost = max(0.0, 1 - 2 * gain / size) if size else 1.0
    return {name: Match(chosen, cost) for name, chosen in maps.items()}


def _unflattened(leaves: Sequence[Space], seen: Moments) -> Float[Tensor, "one *source_target"]:
    sizes = [space.units for space in leaves]
    return seen.cross.reshape(1, *sizes, *sizes)


def probes(spec: Spec) -> list[HookPoint]:
    """The stream behind every norm; what linear maps write and read beside the stream."""
    streams_ = {axis.name for norm in spec.norms() for axis in norm.space.spaces()}
    beside = [
        probe
        for probe in (*outputs(spec), *inputs(spec))
        if streams_.isdisjoint(space.name for space in probe.axis.spaces())
    ]
    return [*streams(spec), *beside]


def from_activations(seen: Mapping[HookPoint, Moments]) -> Evidence:
    """Correlations for spaces of permutations, covariances for spaces of rotations; every probe counts the same."""

    def look(root: Space, maps: Mapping[str, Map]) -> Iterator[View]:
        for probe in seen:
            if root in _spaces(probe.axis):
                yield _spaces(probe.axis), _even(_see(bare(probe.axis), seen[probe]))

    return look


def remembered(evidence: Evidence) -> Evidence:
    """Evidence that does not depend on other maps, made once for each space and kept in memory, while there is room."""
    known: dict[Space, list[View]] = {}
    full: set[Space] = set()

    def look(root: Space, maps: Mapping[str, Map]) -> Iterable[View]:
        if root in known or root in full:
            return known[root] if root in known else evidence(root, maps)
        found = list(evidence(root, maps))
        sizes = (seen.cross.nbytes for each in (*known.values(), found) for _, seen in each)
        if sum(sizes) <= REMEMBERED:
            known[root] = found
        else:
            full.add(root)
        return found

    return look


def _spaces(axis: Axis) -> tuple[Space, ...]:
    return tuple(space for space, _ in leaves(bare(axis)))


def products(probe: HookPoint) -> torch.dtype | None:
    """The precision of a probe's products: a rotation follows directions that hardly vary, too; None: the samples'."""
    return None if _hard(bare(probe.axis)) else torch.float64


def _see(axis: Axis, found: Moments) -> Moments:
    return standardise(found) if _hard(axis) else centre(found)


def _hard(axis: Axis) -> bool:
    return isinstance(axis, Space) and axis.group in (Group.PERMUTATION, Group.SIGNED)


def _even(found: Moments) -> Moments:
    energy = found.energy()
    return found.times(1 / energy) if energy else found


def or_else(evidence: Evidence, other: Evidence) -> Evidence:
    """Evidence, and of what it does not show (experts and gains have no module to look at) the other."""

    def look(root: Space, maps: Mapping[str, Map]) -> Iterator[View]:
        shown: set[Space] = set()
        for spaces, seen in evidence(root, maps):
            shown.update(spaces)
            yield spaces, seen
        yield from ((spaces, _even(seen)) for spaces, seen in other(root, maps) if _free(spaces) - shown)

    return look


def _free(spaces: Sequence[Space]) -> set[Space]:
    return {space for space in spaces if space.free}


def combine(shares: Sequence[tuple[Evidence, float]]) -> Evidence:
    """Several kinds of evidence at once, each scaled to its share of the whole."""

    def look(space: Space, maps: Mapping[str, Map]) -> list[View]:
        found: list[View] = []
        for evidence, share in shares:
            sights = list(evidence(space, maps))
            energy = sum(seen.energy() for _, seen in sights)
            found += [(axis, seen.times(share / energy)) for axis, seen in sights] if energy else []
        return found

    return look


def from_weights(
    spec: Spec, source: Tensors, target: Tensors, wider: Spec | None = None, products: torch.dtype = torch.float64
) -> Evidence:
    """Weight matching (Git Re-Basin, Ainsworth et al., 2209.04836) over every exact group.

    All tensors that touch a space, the source's carried along their other axes; tensors that touch a space not yet
    found are left out, so that the first sweep starts from the fixed ends: pixels, positions and classes.

    Args:
        wider: the target's declaration, where other spaces than the sought ones have other sizes there.
        products: the precision of products of weights.
    """
    shapes = {
        name: [space.units for axis in axes for space, _ in leaves(axis)]
        for name, axes in (wider or spec).tensors().items()
    }
    tensors = {name: (axes, [leaf for axis in axes for leaf in leaves(axis)]) for name, axes in spec.tensors().items()}

    def look(root: Space, maps: Mapping[str, Map]) -> Iterator[View]:
        for name, (axes, found) in tensors.items():
            places = [place for place, leaf in enumerate(found) if _shows(root, *leaf)]
            others = [space for place, (space, _) in enumerate(found) if place not in places and space.free]
            shown = tuple(found[place][0] for place in places)
            if not places or len(set(shown)) < len(shown) or not all(space.name in maps for space in others):
                continue  # nothing to see yet; or a map of the space to itself, which would need two at once
            known = {space.name: maps[space.name] for space in others}
            pair = (transform_tensor_dict(source[name], axes, known), target[name])
            x, y = (_samples(values.reshape(shapes[name]), places) for values in pair)
            yield shown, moments(x, y, products=products)

    return look


def _shows(root: Space, space: Space, mode: Mode) -> bool:
    """Factors per unit tell units apart that are only permuted; of others they say nothing."""
    return root in (space, *space.ancestors()) and (not mode.diagonal or space.group is Group.PERMUTATION)


def _samples(values: Tensor, places: Sequence[int]) -> Float[Tensor, "sample unit"]:
    """These dimensions together, all others as samples."""
    last = values.movedim(list(places), list(range(-len(places), 0)))
    return last.reshape(-1, prod(last.shape[-len(places) :]))
