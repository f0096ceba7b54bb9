"""Coordinate descent over the exact symmetries of a network: each space is solved given the maps of all others."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.alignment.exact.evidence import Evidence, View
from transfuse.alignment.exact.nested_assignment import Term, solve
from transfuse.alignment.exact.stacked_assignment import solve_stack
from transfuse.alignment.exact.stacked_samples import StackedSamples
from transfuse.alignment.match_store import SolverState
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.distributed import process_group
from transfuse.base.progress import Progress, silent
from transfuse.network.axes import leaves
from transfuse.network.space import Space
from transfuse.network.spec import Spec
from transfuse.transport.cost import Moments
from transfuse.transport.maps import Map
from transfuse.transport.solve import Match, maps_of

MAX_ROUNDS = 30
TOLERANCE = 1e-3  # the descent stops after a round that lowers the cost by less than this share
MAX_THREADS = 8
MAX_PARALLEL_UNITS = 4096  # units of the largest space up to which several spaces are solved at once


@dataclass
class Descent:
    """The state of a descent: its matches by space, the number of solved groups, and the cost after each round."""

    matches: dict[str, Match]
    turns: int = 0
    costs: list[float] = field(default_factory=list)
    converged: bool = False


def coordinate_descent(
    spec: Spec,
    evidence: Evidence,
    start: Mapping[str, Match] = MappingProxyType({}),
    store: Store = NO_STORE,
    progress: Progress = silent,
    negligible: float = 0.0,
) -> dict[str, Match]:
    """Match every free space of a symmetric declaration by coordinate descent over the outermost spaces.

    Args:
        spec: the declaration that both models share.
        evidence: yields the moments of everything that shows a space or a space within it, given the maps so far.
        start: matches to start from. Without them, the first round uses only evidence that needs no other map.
        store: where progress is saved, so that an interrupted descent can resume.
        negligible: mean cost of a match that is only rounding error. The descent stops there, too.

    Returns:
        One match per free space, by name.
    """
    size = process_group().count * _threads(spec)
    groups = independent_groups(spec, size)
    checkpoint = _Checkpoint(store, size)
    descent = checkpoint.load() or Descent(dict(start))
    # How many are needed is unknown.
    turns = range(descent.turns, 0 if descent.converged else MAX_ROUNDS * len(groups))
    for turn in progress.track(iter(turns), lambda: _status(descent, len(groups))):
        maps = maps_of(descent.matches)
        descent.matches |= _solve_group(groups[turn % len(groups)], evidence, maps)
        descent.turns += 1
        if descent.turns % len(groups) == 0:
            descent.costs.append(sum(match.cost for match in descent.matches.values()))
            descent.converged = _has_converged(descent.costs, negligible * len(descent.matches))
        checkpoint.save(descent)
        if descent.converged:
            break
    return descent.matches


def _has_converged(costs: Sequence[float], negligible: float) -> bool:
    """Return whether the last round hardly lowered the cost, or left only rounding error."""
    stalled = len(costs) > 1 and costs[-1] >= costs[-2] * (1 - TOLERANCE)
    return stalled or costs[-1] <= negligible


def solve_one(root: Space, views: Iterable[View], known: Map | None = None) -> dict[str, Match]:
    """Return the best map of an outermost space and of each space within it.

    Args:
        root: the outermost space.
        views: moments that show it, or spaces within it. Spaces that no view shows are left out.
        known: the map of `root`, if it has been found already.
    """
    totals: dict[tuple[Space, ...], Moments] = {}
    stacks: dict[tuple[Space, ...], list[StackedSamples]] = {}
    for spaces, shown in views:
        if isinstance(shown, StackedSamples):
            stacks.setdefault(spaces, []).append(shown)
        else:  # added up one by one: each is as large as the map
            totals[spaces] = totals[spaces] + shown if spaces in totals else shown
    if not totals and not stacks:
        return {}
    terms = [Term(spaces, _by_space(spaces, moments)) for spaces, moments in totals.items()]
    maps, gain = solve_stack(root, terms, stacks, known) if stacks else solve(root, terms, known)
    size = sum(map(_size, totals.values())) + sum(map(_size, chain.from_iterable(stacks.values())))
    cost = max(0.0, 1 - 2 * gain / size) if size else 1.0
    return {name: Match(best, cost) for name, best in maps.items()}


def _size(shown: Moments | StackedSamples) -> float:
    return float(shown.square_x.sum() + shown.square_y.sum())


def _by_space(spaces: Sequence[Space], moments: Moments) -> Float[Tensor, "batch *source_target"]:
    """Return the cross-moment with one axis per space, of the source and of the target, and a batch axis of size 1."""
    sizes = [space.units for space in spaces]
    return moments.cross.reshape(1, *sizes, *sizes)


def outermost_spaces(spec: Spec) -> list[Space]:
    """Return the outermost spaces that are free or that enclose free ones."""
    return list(dict.fromkeys(space.root for space in spec.spaces().values()))


# Several processes and threads


def _threads(spec: Spec) -> int:
    """Return how many spaces each process solves at once. Large ones are solved one by one, to save memory."""
    largest = max((space.units * space.instances for space in spec.spaces().values()), default=0)
    return max(1, min(torch.get_num_threads(), MAX_THREADS)) if largest <= MAX_PARALLEL_UNITS else 1


def independent_groups(spec: Spec, size: int) -> list[list[Space]]:
    """Return the outermost spaces in groups of at most `size` that share no tensor, so that each is solved alone."""
    neighbors: dict[Space, set[Space]] = {}
    for axes in spec.tensors().values():
        roots = {space.root for axis in axes for space, _ in leaves(axis)}
        for root in roots:
            neighbors.setdefault(root, set()).update(roots)
    groups: list[list[Space]] = []
    for root in outermost_spaces(spec):
        if groups and len(groups[-1]) < size and neighbors.get(root, {root}).isdisjoint(groups[-1]):
            groups[-1].append(root)
        else:
            groups.append([root])
    return groups


def _solve_group(group: Sequence[Space], evidence: Evidence, maps: Mapping[str, Map]) -> dict[str, Match]:
    """Solve independent spaces, each in one thread of one process, and return the matches of all."""
    roots = list(process_group().shard(group))
    if len(roots) > 1:
        with ThreadPoolExecutor(len(roots)) as pool:
            solving = [pool.submit(copy_context().run, _solve_root, root, evidence, maps) for root in roots]
        local = [solved.result() for solved in solving]
    else:
        local = [_solve_root(root, evidence, maps) for root in roots]
    gathered = process_group().all_gather(local)
    return {name: match for solutions in gathered for matches in solutions for name, match in matches.items()}


def _solve_root(root: Space, evidence: Evidence, maps: Mapping[str, Map]) -> dict[str, Match]:
    return solve_one(root, evidence(root, maps))


# Progress and resumption


def _status(descent: Descent, groups: int) -> str:
    left = f", {descent.costs[-1] / max(len(descent.matches), 1):.3f} of the difference left" if descent.costs else ""
    return f"aligning, round {descent.turns // groups + 1}{left}"


class _Checkpoint:
    """A descent in a store. Until it has converged, only groups of the same size can resume it, since turns count them.

    Attributes:
        size: the largest number of spaces in a group.
    """

    def __init__(self, store: Store, size: int) -> None:
        self.converged = SolverState(store, "descent")
        self.unfinished = SolverState(store, f"descent by {size}")

    def load(self) -> Descent | None:
        saved = self.converged.load() or self.unfinished.load()
        if saved is None:
            return None
        matches, facts = saved
        return Descent(matches, facts["solved"], facts["costs"], facts["ended"])

    def save(self, descent: Descent) -> None:
        state = self.converged if descent.converged else self.unfinished
        facts = {"solved": descent.turns, "costs": descent.costs, "ended": descent.converged}
        state.save(descent.matches, facts, descent.converged)
