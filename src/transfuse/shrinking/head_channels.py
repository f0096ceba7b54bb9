"""Heads with fewer channels, chosen by what the channels do on samples.

Any invertible map may act between queries and keys without positions, and behind values. So the products of queries and
keys, and what the output layer writes from the values, are approximated with fewer channels: by the leading singular
vectors, in the metric of the samples. Rotary channels keep their frequencies (`rotary_heads`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from transfuse.activations.hook_points import HookPoint
from transfuse.alignment.transform import transform_tensor
from transfuse.base.budget import FLOAT64_BYTES, cache_bytes
from transfuse.base.grouping import groups_within
from transfuse.errors import SpecError
from transfuse.network.axes import Mode, axis_terms, leaves
from transfuse.network.layout import unfused
from transfuse.network.operations import Linear
from transfuse.network.space import Axis, Group, Space
from transfuse.network.spec import Spec
from transfuse.shrinking.maps import FewerChannels
from transfuse.shrinking.observe import Observation
from transfuse.shrinking.rotary_heads import frequency_map, holds_frequencies, scaled_pairs
from transfuse.transport.maps import Map

RIDGE = 1e-6  # penalty of channels that say nothing on the samples, relative to the mean square


def channel_spaces(spec: Spec, changed: Mapping[str, int]) -> dict[str, int]:
    """Return the spaces with channels of heads whose number changes, and the planes whose scores are scaled, by name.

    Args:
        spec: the symmetric declaration of a model of the large widths.
        changed: the units of every space whose size differs, by name.

    Raises:
        SpecError: the channels cannot be fewer.
    """
    spaces = spec.all_spaces()
    found = {name: units for name, units in changed.items() if _holds_channels(spaces[name])}
    for name in found:
        if not holds_frequencies(spaces[name]) and spaces[name].group is not Group.LINEAR:
            raise SpecError(f"{spec.family}: the channels of {name} cannot be mixed; leave head_size as it is")
    if any(not op.observable for op in spec.linears() for space in op.writes.spaces() if space.name in found):
        raise SpecError(f"{spec.family}: a block runs several times, so leave out head_size")
    found |= scaled_pairs(spec, changed)
    for name, units in found.items():
        if holds_frequencies(spaces[name]):
            frequency_map(spec, spaces[name], units, 1.0)
    return found


def _holds_channels(space: Space) -> bool:
    return holds_frequencies(space) or space.name.rpartition(".")[2] in ("qk", "v", "rest")


def channel_maps(sizes: Mapping[str, int], observation: Observation, factor: float) -> dict[str, Map]:
    """Return the map of every space with channels, for all heads of the large model.

    Args:
        sizes: what `channel_spaces` returned.
        observation: the samples.
        factor: by what queries are multiplied.
    """
    spec = unfused(observation.projection.cut)
    spaces = [spec.all_spaces()[name] for name in sizes]
    rotary = [space for space in spaces if holds_frequencies(space)]
    maps: dict[str, Map] = {space.name: frequency_map(spec, space, sizes[space.name], factor) for space in rotary}
    others = [space for space in spaces if not holds_frequencies(space)]
    for group in groups_within(others, _moment_bytes, cache_bytes("block outputs")):
        moments = _moments(group, observation)
        for space in group:
            written, read = (moments[space.name, mode] for mode in (Mode.WRITES, Mode.READS))
            forward, backward = _low_rank(written, read, sizes[space.name])
            maps[space.name] = FewerChannels(forward * (factor if spec.has_dual(space) else 1.0), backward)
    return maps


def of_chosen_heads(maps: Mapping[str, Map], spec: Spec, heads: Mapping[str, Map]) -> dict[str, Map]:
    """Return the maps within the heads that stay.

    Args:
        heads: the maps of heads, or of groups of heads, by the name of their space.
    """
    spaces = spec.all_spaces()
    result: dict[str, Map] = {}
    for name, map_ in maps.items():
        outer = heads.get(spaces[name].root.name)
        if isinstance(map_, FewerChannels) and outer is not None:
            kept = [outer.scale(part.movedim(0, -1)).movedim(-1, 0) for part in (map_.forward, map_.backward)]
            result[name] = FewerChannels(*kept)
        else:
            result[name] = map_
    return result


def with_channels(small: Spec, cut: Spec, channels: Collection[str]) -> Spec:
    """Return the declaration of a small model whose heads have as many channels as those of the large one.

    Args:
        channels: the names of the spaces with channels.
    """
    units = {name: space.units for name, space in cut.all_spaces().items() if name in channels}

    def change(space: Space) -> Space:
        within = change(space.within) if space.within else None
        return replace(space, units=units.get(space.name, space.units), within=within)

    return replace(small, ops=tuple(op.replace(lambda axis: axis.replace(change)) for op in small.ops))


def reader_with_fewer(
    values: Float[Tensor, "inputs writes"], axis: Axis, maps: Mapping[str, Map]
) -> Float[Tensor, "fewer writes"]:
    """Return a fitted layer, with its bias as the last row if it has one, that reads heads with fewer channels.

    Args:
        axis: what the layer reads.
        maps: the maps of channels.
    """
    rows = Space("row", values.shape[1], Group.FIXED)
    fewer = transform_tensor(values[: axis.size].T, (rows, ~axis), maps).T
    return torch.cat([fewer, values[axis.size :]])


Moments = Float[Tensor, "outer channel channel"]


def _moment_bytes(space: Space) -> int:
    return 2 * FLOAT64_BYTES * space.instances * space.units**2


@torch.no_grad()
def _moments(spaces: Sequence[Space], observation: Observation) -> dict[tuple[str, Mode], Moments]:
    """Return second moments of the channels of spaces, by their name and by what uses them.

    What writes are queries, or values behind attention. What reads are keys, or the rows of the output layer.
    """
    projection = observation.projection
    totals: dict[tuple[str, Mode], Moments] = {}

    def add(space: Space, mode: Mode, channels: Tensor, weights: Tensor) -> None:
        totals[space.name, mode] = totals.get((space.name, mode), 0) + _second_moments(channels, weights)

    points = [(space, point) for space in spaces for point in _points(space, projection.cut)]
    for batch_rows in observation.rows([point for _, point in points], [[point.name] for _, point in points]):
        for (space, point), (rows, weights) in zip(points, batch_rows, strict=True):
            for mode, channels in _channels(space, point.axis, rows):
                add(space, mode, channels, weights)
    for space in spaces:
        for op in _readers(space, projection.cut):
            matrix = projection.large.get_parameter(f"{projection.large_name(op.name)}.{op.weight}")
            rows = matrix.T if op.transposed else matrix
            for _, channels in _channels(space, op.reads[0], rows):
                add(space, Mode.READS, channels, rows.new_ones(len(rows)))
    return totals


def _readers(space: Space, spec: Spec) -> list[Linear]:
    """Return the linear maps that read a space, as output layers read values."""
    return [op for op in spec.linears() if any(space in axis.spaces() for axis in op.reads)]


def _points(space: Space, spec: Spec) -> list[HookPoint]:
    """Return where channels show: at the output of queries and keys, or behind attention."""
    if readers := _readers(space, spec):
        return [HookPoint(op.name, "input", op.reads[0]) for op in readers]
    tables = spec.table_readers()
    writers = [op for op in spec.linears() if space in op.writes.spaces() and op.name not in tables]
    return [HookPoint(op.name, "output", op.writes) for op in writers if op.observable]


def _channels(
    space: Space, axis: Axis, rows: Float[Tensor, "row unit"]
) -> Iterator[tuple[Mode, Float[Tensor, "outer row channel"]]]:
    """Yield the channels of a space in each term of an axis, with the rows of all query heads of a group together."""
    for entries, term in axis_terms(axis):
        parts = leaves(term)
        names = [part.name for part, _ in parts]
        if space.name not in names:
            continue
        values = rows[:, entries].reshape(len(rows), *(part.units for part, _ in parts))
        outer = [1 + names.index(parent.name) for parent in space.ancestors()]
        values = values.movedim([*outer, 1 + names.index(space.name)], [*range(len(outer)), -1])
        yield parts[names.index(space.name)][1], values.flatten(0, len(outer) - 1).unflatten(0, (space.instances,))


def _second_moments(channels: Float[Tensor, "outer row ... channel"], weights: Float[Tensor, " row"]) -> Moments:
    inner = channels.flatten(2, -2) if channels.ndim > 3 else channels.unsqueeze(2)
    weighted = (inner * weights[:, None, None]).flatten(1, 2).double()
    return (weighted.transpose(1, 2) @ inner.flatten(1, 2).double()).cpu()


def _low_rank(
    left: Moments, right: Moments, units: int
) -> tuple[Float[Tensor, "outer channel kept"], Float[Tensor, "outer channel kept"]]:
    """Return maps A and B to fewer channels, so that the products of A x and B y are nearly those of x and y.

    With moments L L^T of x and R R^T of y, the best are A = L^-T U S^1/2 and B = R^-T V S^1/2, where U S V^T are the
    leading singular vectors of L^T R.
    """
    roots = [_root(moments) for moments in (left, right)]
    vectors, values, others = torch.linalg.svd(roots[0].mT @ roots[1])
    scale = values[:, None, :units].sqrt()
    kept = [vectors[..., :units] * scale, others.mT[..., :units] * scale]
    a, b = (torch.linalg.solve(root.mT, part) for root, part in zip(roots, kept, strict=True))
    return a.contiguous(), b.contiguous()


def _root(moments: Moments) -> Float[Tensor, "outer channel channel"]:
    """Return the Cholesky factor of moments, with a penalty for what the samples do not show."""
    mean = moments.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-30)
    eye = torch.eye(moments.shape[-1], dtype=moments.dtype)
    return torch.linalg.cholesky(moments + RIDGE * mean[:, None, None] * eye)
