"""Evidence of which units correspond: moments of activations and of weights, per space."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.activations.hook_points import HookPoint, input_points, output_points, stream_points
from transfuse.alignment.exact.stacked_samples import StackedSamples, large_stacks, stacked_samples
from transfuse.alignment.transform import transform_tensor
from transfuse.base.budget import cache_bytes
from transfuse.base.lazy import Tensors
from transfuse.network.axes import Mode, leaves, without_direction
from transfuse.network.operations import Table
from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import Spec
from transfuse.transport.cost import Moments, center, moments, standardize
from transfuse.transport.maps import Map

View = tuple[tuple[Space, ...], Moments | StackedSamples]
"""Moments of both models over the units of one or more spaces, which are flattened in this order.

For a large stack of layers, such as experts, these are the samples, from which moments of two layers are computed.
"""

Evidence = Callable[[Space, Mapping[str, Map]], Iterable[View]]
"""Returns the views of an outermost space and of the spaces within it, given the maps of other spaces by name."""


def hook_points(spec: Spec) -> list[HookPoint]:
    """Return where activations are recorded: behind every norm, and at linear maps beside the residual stream."""
    stream_names = {axis.name for norm in spec.norms() for axis in norm.space.spaces()}
    small = {op.name for op in spec.ops if isinstance(op, Table) and _shows_no_rotation(op)}
    beside = [
        point
        for point in (*output_points(spec), *input_points(spec))
        if point.name not in small and stream_names.isdisjoint(space.name for space in point.axis.spaces())
    ]
    return [*stream_points(spec), *beside]


def product_dtype(point: HookPoint) -> torch.dtype | None:
    """Return the precision of the products of activations; None for the precision of the activations.

    A rotation also depends on directions that hardly vary, and so needs float64.
    """
    return None if _is_permuted(without_direction(point.axis)) else torch.float64


def from_activations(statistics: Mapping[HookPoint, Moments]) -> Evidence:
    """Match by activations: correlations for permutations, covariances for rotations. Hook points count equally."""

    def views(root: Space, maps: Mapping[str, Map]) -> Iterator[View]:
        for point in statistics:
            if root in _spaces(point.axis):
                yield _spaces(point.axis), _unit_energy(_centered(without_direction(point.axis), statistics[point]))

    return views


def from_weights(
    spec: Spec, source: Tensors, target: Tensors, wider: Spec | None = None, products: torch.dtype = torch.float64
) -> Evidence:
    """Match by weights (Git Re-Basin, Ainsworth et al., 2209.04836), extended to every exact group.

    A view is a tensor that touches the space, with the source's other axes already mapped. Tensors whose other spaces
    have no map yet are left out, so that the first round starts from the fixed ends: pixels, positions and classes.

    Args:
        wider: the target's declaration, if spaces other than the matched ones have other sizes there.
        products: the precision of products of weights that show a rotation. Those that show permutations alone have the
            precision of the weights.
    """
    shapes = {
        name: [space.units for axis in axes for space, _ in leaves(axis)]
        for name, axes in (wider or spec).tensors().items()
    }
    tensors = {name: (axes, [leaf for axis in axes for leaf in leaves(axis)]) for name, axes in spec.tensors().items()}

    stacks = large_stacks(spec)
    constant = _KeptViews()  # of tensors that no other map changes, such as embeddings

    def views(root: Space, maps: Mapping[str, Map]) -> Iterator[View]:
        for name, (axes, flat) in tensors.items():
            dims = [dim for dim, leaf in enumerate(flat) if _is_shown_by(root, *leaf)]
            others = [space for dim, (space, _) in enumerate(flat) if dim not in dims and space.free]
            spaces = tuple(flat[dim][0] for dim in dims)
            if not dims or len(set(spaces)) < len(spaces) or not all(space.name in maps for space in others):
                continue  # a space without a map; or a tensor from the space to itself, which needs two maps at once
            if (root, name) in constant.views:
                yield from constant.views[root, name]
                continue
            known = {space.name: maps[space.name] for space in others}
            mapped = transform_tensor(source[name], axes, known)
            x, y = (values.reshape(shapes[name]) for values in (mapped, target[name]))
            stats: Moments | StackedSamples
            if root in stacks and len(spaces) > 1:
                stats = stacked_samples(x, y, dims, [space.units for space in spaces])
            else:
                rotated = any(map(_is_rotated, spaces))
                stats = moments(_as_samples(x, dims), _as_samples(y, dims), products=products if rotated else None)
            if not others:
                constant.keep((root, name), [(spaces, stats)])
            yield spaces, stats

    return views


def with_fallback(evidence: Evidence, fallback: Evidence) -> Evidence:
    """Use `fallback` for the spaces that `evidence` does not show: experts and gains have no module to record."""

    def views(root: Space, maps: Mapping[str, Map]) -> Iterator[View]:
        shown: set[Space] = set()
        for spaces, stats in evidence(root, maps):
            shown.update(spaces)
            yield spaces, stats
        for spaces, stats in fallback(root, maps):
            if {space for space in spaces if space.free} - shown:
                yield spaces, _unit_energy(stats)

    return views


def combine(shares: Sequence[tuple[Evidence, float]]) -> Evidence:
    """Add up several kinds of evidence, each scaled to its share of the total energy."""

    def views(root: Space, maps: Mapping[str, Map]) -> list[View]:
        scaled: list[View] = []
        for evidence, share in shares:
            unscaled = list(evidence(root, maps))
            energy = sum(stats.energy() for _, stats in unscaled)
            scaled += [(spaces, stats.scaled(share / energy)) for spaces, stats in unscaled] if energy else []
        return scaled

    return views


def cached(evidence: Evidence) -> Evidence:
    """Compute evidence that depends on no other map once per space, and keep it as far as memory allows."""
    cache = _KeptViews()
    too_large: set[Space] = set()

    def views(root: Space, maps: Mapping[str, Map]) -> Iterable[View]:
        if root in cache.views or root in too_large:
            return cache.views[root] if root in cache.views else evidence(root, maps)
        new = list(evidence(root, maps))
        if not cache.keep(root, new):
            too_large.add(root)
        return new

    return views


class _KeptViews:
    """Views that are kept as far as memory allows. Several threads may add some at once."""

    def __init__(self) -> None:
        self.views: dict[Hashable, list[View]] = {}

    def keep(self, key: Hashable, views: list[View]) -> bool:
        """Keep views under a key if there is room. Return whether there is."""
        entries = [*self.views.values(), views]  # copied at once, since another thread may add to the dictionary
        fits = sum(stats.nbytes for entry in entries for _, stats in entry) <= cache_bytes("alignment evidence")
        if fits:
            self.views[key] = views
        return fits


def _spaces(axis: Axis) -> tuple[Space, ...]:
    return tuple(space for space, _ in leaves(without_direction(axis)))


def _is_permuted(axis: Axis) -> bool:
    return isinstance(axis, Space) and axis.group.permutes


def _is_rotated(space: Space) -> bool:
    return space.units > 1 and not _is_permuted(space)


def _centered(axis: Axis, stats: Moments) -> Moments:
    return standardize(stats) if _is_permuted(axis) else center(stats)


def _shows_no_rotation(table: Table) -> bool:
    """Return whether a table has too few rows to show how its units are rotated."""
    return not _is_permuted(table.writes) and prod(axis.size for axis in table.rows) < table.writes.size


def _unit_energy(stats: Moments | StackedSamples) -> Moments | StackedSamples:
    energy = stats.energy()
    return stats.scaled(1 / energy) if energy else stats


def _is_shown_by(root: Space, space: Space, mode: Mode) -> bool:
    """Return whether an axis tells units of `root` apart: a factor per unit does so only for permuted units."""
    return root in (space, *space.ancestors()) and (not mode.diagonal or space.group is Group.PERMUTATION)


def _as_samples(values: Tensor, dims: Sequence[int]) -> Float[Tensor, "sample unit"]:
    """Flatten these dimensions into units, and all others into samples."""
    last = values.movedim(list(dims), list(range(-len(dims), 0)))
    return last.reshape(-1, prod(last.shape[-len(dims) :]))
