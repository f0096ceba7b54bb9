"""The small model before its layers are fitted: the large model's weights, carried into the smaller spaces."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.alignment.match_store import map_tensors, stored_map
from transfuse.alignment.transform import transform_all
from transfuse.base.cache import NO_STORE, Entry, Store
from transfuse.base.owners import by_owner
from transfuse.base.progress import Progress
from transfuse.distillation.validation import BatchSplit
from transfuse.network.changed_spaces import changed_sizes
from transfuse.network.layout import unfused
from transfuse.network.model import Network, declaration, unfused_tensors, with_tensors
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import score_factor, sizes_of
from transfuse.network.spec import Spec
from transfuse.network.symmetry import fold, symmetric
from transfuse.network.width_factors import width_factors
from transfuse.shrinking.blocks import Blocks, all_blocks, block_ends
from transfuse.shrinking.head_channels import (
    channel_maps,
    channel_spaces,
    of_chosen_heads,
    reader_with_fewer,
    with_channels,
)
from transfuse.shrinking.maps import KINDS
from transfuse.shrinking.norms import fitted_norms, head_gain_factors
from transfuse.shrinking.observe import Observation, sufficient
from transfuse.shrinking.projection import Projection
from transfuse.shrinking.stream import stream_map
from transfuse.shrinking.units import Fitted, choices, choose_units
from transfuse.transport.maps import Map

MODEL = ""  # in place of a space in the names of what is kept, for the tensors of the small model


def start(
    network: Network,
    blocks: Blocks,
    configs: tuple[PreTrainedConfig, PreTrainedConfig],
    batches: BatchSplit,
    progress: Progress,
    store: Store = NO_STORE,
) -> tuple[PreTrainedModel, Projection]:
    """Return the small model before its layers are fitted, and how the large model shows itself in its spaces.

    Args:
        network: the large model.
        blocks: the blocks that stay.
        configs: those of a model of the large widths with these blocks, and of the small model.
        batches: samples to choose by, and others to validate on.
        store: cache of the result.
    """
    cut, small = (empty_like(network.model, config) for config in configs)
    changed = changed_sizes(declaration(cut), declaration(small))
    large = folded(network) if changed else network.model
    projection = _projection(large, blocks, declaration(cut), declaration(small))
    if (entry := store.load("start")) is not None:
        return _restored(entry, small, projection)
    tensors = _cut_tensors(projection)
    extra: Fitted = {}
    if changed:
        shown = [op for op in projection.cut.linears() if op.observable and not op.stacked]
        importance = projection.importance(shown, batches[0])
        train, validation = (Observation(projection, sufficient(part, projection), importance) for part in batches)
        factor = score_factor(*configs)
        projection, extra = _with_maps(changed, train, validation, factor, progress)
    carried = dict(transform_all(unfused(projection.cut), tensors, projection.maps))
    observation = Observation(projection, sufficient(batches[0], projection), {})
    factors = width_factors(small, projection.cut, projection.small) | head_gain_factors(observation)
    for name, factor in factors.items():
        carried[name] = carried[name] * factor
    _write(carried, extra, projection)
    carried |= fitted_norms(observation) if changed else {}
    made = with_tensors(small, {name: values.to(large.dtype) for name, values in carried.items()})
    _keep(store, made, projection.maps)
    return made, projection


def unchanged(model: PreTrainedModel, blocks: Blocks) -> Projection:
    """Return how a model shows itself in a small one that has all its blocks and spaces."""
    spec = declaration(model)
    return _projection(model, blocks, spec, spec)


def _projection(large: PreTrainedModel, blocks: Blocks, cut: Spec, small: Spec) -> Projection:
    ends = block_ends(declaration(large), all_blocks(large, sizes_of(large.config).layers), blocks.depth)
    return Projection(large, blocks, ends, symmetric(cut), symmetric(small), {})


def _keep(store: Store, small: PreTrainedModel, maps: Mapping[str, Map]) -> None:
    """Keep the small model, tied tensors once, and the maps of its spaces."""
    stored = {**dict(small.named_parameters()), **dict(small.named_buffers())}
    tensors = {f"{MODEL}/{name}": values for name, values in stored.items()}
    for space, map_ in maps.items():
        tensors |= {f"{space}/{name}": values for name, values in map_tensors(map_).items()}
    store.keep("start", tensors, {space: type(map_).__name__ for space, map_ in maps.items()})


def _restored(entry: Entry, small: PreTrainedModel, projection: Projection) -> tuple[PreTrainedModel, Projection]:
    """Return what `start` returned when `_keep` kept it.

    Args:
        small: an untrained model of the small sizes, which becomes the kept one.
    """
    fields = by_owner(entry.tensors)
    maps = {space: stored_map(KINDS[kind], fields[space]) for space, kind in entry.facts.items()}
    small.load_state_dict(fields[MODEL], strict=False)  # tied tensors and buffers of the class have one entry or none
    return small, replace(projection, maps=maps)


def folded(network: Network) -> PreTrainedModel:
    """Return the same function with norms folded into their readers, so that streams can rotate."""
    return with_tensors(network.model, fold(symmetric(network.spec), network.tensors))


def check_changes(cut: Spec, small: Spec) -> None:
    """Raise `SpecError` unless a model of the large widths can be brought to the shape of the small one."""
    changed = changed_sizes(cut, small)
    channels = channel_spaces(symmetric(cut), changed)
    choices(symmetric(cut), _without(changed, channels))


def _without(changed: Mapping[str, int], channels: Mapping[str, int]) -> dict[str, int]:
    """Return the spaces that are neither streams nor channels of heads."""
    return {name: units for name, units in changed.items() if name not in channels and not _is_stream(name)}


def _is_stream(name: str) -> bool:
    return name == "stream" or name.startswith("stream.")


def _cut_tensors(projection: Projection) -> dict[str, Tensor]:
    """Return the unfused tensors of the blocks that stay, under the names of the small model."""
    large = projection.large
    stored = unfused_tensors(large)
    names = unfused(projection.cut).tensors()
    norms = {name: norm.name for norm in projection.cut.norms() for name in norm.tensors()}
    result = {}
    for name in names:
        module = norms.get(name)
        large_module = projection.large_name(module) if module else ""
        large_name = name.replace(module, large_module, 1) if module else projection.blocks.large_name(name)
        result[name] = stored[large_name]
    return result


def _with_maps(
    changed: Mapping[str, int], train: Observation, validation: Observation, factor: float, progress: Progress
) -> tuple[Projection, Fitted]:
    """Return the projection with a map for every space whose size differs, and the layers fitted to chosen units.

    Args:
        factor: by what queries are multiplied if heads have fewer channels.
    """
    projection = train.projection
    spaces = projection.cut.spaces()
    streams = [name for name in changed if _is_stream(name)]
    maps: dict[str, Map] = {name: stream_map(spaces[name], changed[name], train) for name in streams}
    projection = replace(projection, maps=maps)
    channels = channel_spaces(projection.cut, changed)
    others = _without(changed, channels)
    todo = choices(projection.cut, others)
    with_all = replace(projection, small=with_channels(projection.small, projection.cut, channels))
    train, validation = (replace(each, projection=with_all) for each in (train, validation))
    unit_maps, fitted = choose_units(todo, others, train, validation, progress)
    if channels:
        fewer = of_chosen_heads(channel_maps(channels, train, factor), projection.cut, unit_maps)
        for name, values in fitted.items():
            fitted[name] = reader_with_fewer(values, with_all.axes[name, "input"][1], fewer)
        unit_maps |= fewer
    return replace(projection, maps=maps | unit_maps), fitted


def _write(tensors: dict[str, Tensor], fitted: Fitted, projection: Projection) -> None:
    """Write the fitted layers among the unfused tensors."""
    linears = {linear.name: linear for linear in projection.cut.linears()}
    for name, values in fitted.items():
        linear = linears[name]
        reads = projection.axes[name, "input"][1].size
        tensors[linear.matrix] = values[:reads].T
        if linear.bias:
            tensors[f"{name}.{linear.bias}"] = values[reads]
