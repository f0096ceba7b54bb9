"""The small model of given sizes, and its layers, fitted."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from transfuse.base.batch import Batch
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.progress import Progress
from transfuse.checkpoint.reading.mapped_model import mapped_zeros
from transfuse.checkpoint.reading.spill import TensorSpill
from transfuse.distillation.validation import BatchSplit
from transfuse.merging.fitting.least_squares import least_squares
from transfuse.network.model import Network, declaration, network
from transfuse.network.parameter_count import parameter_count
from transfuse.network.reconfigured import empty_like
from transfuse.network.sizes import Sizes, resized, sizes_of
from transfuse.shrinking.blocks import Blocks, all_blocks
from transfuse.shrinking.depth import AllowedFn, any_blocks, choose_blocks
from transfuse.shrinking.experts.layer import expert_layers
from transfuse.shrinking.experts.model import fewer_experts
from transfuse.shrinking.projection import Projection
from transfuse.shrinking.start import folded, start, unchanged


def fitted(
    large: Network,
    sizes: Sizes,
    split: BatchSplit,
    progress: Progress,
    store: Store = NO_STORE,
    allowed: AllowedFn = any_blocks,
) -> tuple[PreTrainedModel, Projection, dict[str, Any]]:
    """Return the small model with fitted layers, what it was fitted to, and facts for the record.

    Args:
        split: samples to choose units and blocks by, and others to validate on. Layers are fitted to both.
        store: cache of all that is chosen and fitted. An interrupted run continues after what is cached.
        allowed: tells which blocks may stay together.
    """
    teacher, facts = large, {}
    if sizes.experts != sizes_of(large.model.config).experts:
        large, facts["experts"] = with_fewer_experts(large, sizes, split, progress, store)
    blocks = all_blocks(large.model, sizes_of(large.model.config).layers)
    if sizes.layers != blocks.depth and sizes.layers is not None:
        blocks = _chosen_blocks(large.model, blocks, sizes.layers, split[0], progress, store, allowed)
    if large is not teacher and sizes == sizes_of(large.model.config):  # nothing but experts was left out
        small, projection = large.model, unchanged(large.model, blocks)
    else:
        configs = configurations(large.model.config, sizes, blocks)
        small, projection = start(large, blocks, configs, split, progress, store)
    routers: list[str] = []
    if large is not teacher:
        routers = [layer.router.name for layer in expert_layers(declaration(small))]
        same_basis = projection.large is large.model
        projection = replace(projection, large=teacher.model if same_basis else folded(teacher))
    fits = fit_layers(small, projection, [*split[0], *split[1]], progress, routers, store)
    return small, projection, {"blocks": list(blocks.kept), **facts, "least_squares": fits}


def _chosen_blocks(
    model: PreTrainedModel,
    blocks: Blocks,
    count: int,
    batches: Sequence[Batch],
    progress: Progress,
    store: Store,
    allowed: AllowedFn,
) -> Blocks:
    """Return the `count` blocks that stay, from the cache if they are there."""
    if (entry := store.load("blocks")) is not None:
        return replace(blocks, kept=tuple(entry.facts))
    chosen = choose_blocks(model, blocks.stack, count, batches, progress, allowed)
    store.keep("blocks", {}, list(chosen.kept))
    return chosen


def with_fewer_experts(
    large: Network,
    sizes: Sizes,
    split: BatchSplit,
    progress: Progress,
    store: Store = NO_STORE,
) -> tuple[Network, dict[str, Any]]:
    """Return a model with fewer experts, of the same sizes otherwise, and which experts stay in each layer."""
    config = resized(large.model.config, Sizes(experts=sizes.experts))
    spill = large.materialize
    if isinstance(spill, TensorSpill):
        small = mapped_zeros(large.model, config, spill)
    else:
        small = empty_like(large.model, config)
    facts = fewer_experts(large.model, small, split, progress, store=store)
    return network(small, small.device, large.name, spill), facts


def fit_layers(
    small: PreTrainedModel,
    projection: Projection,
    batches: Sequence[Batch],
    progress: Progress,
    untouched: Collection[str] = (),
    store: Store = NO_STORE,
) -> dict[str, Any]:
    """Fit every layer of the small model in place, in the order of the pass; return how well each was fitted.

    Args:
        untouched: names of layers that stay as they are.
        store: cache of fitted layers. An interrupted fit continues after the cached layers.
    """
    track = partial(progress.track, description="fitting layers")
    large = [projection.large]
    spec = declaration(small)
    fits = least_squares(
        spec, small, large, [1.0], batches, untouched=untouched, track=track, store=store, view=projection
    )
    return {name: asdict(fit) for name, fit in fits.items()}


def configurations(config: PreTrainedConfig, sizes: Sizes, blocks: Blocks) -> tuple[PreTrainedConfig, PreTrainedConfig]:
    """Return the configurations of a model of the large widths with the blocks that stay, and of the small model."""
    cut = Sizes(layers=sizes.layers)
    return resized(config, cut, blocks.kept), resized(config, sizes, blocks.kept)


def size_record(loaded: PreTrainedModel, sizes: Sizes) -> dict[str, Any]:
    """Return the sizes and the number of parameters before and after."""
    small = parameter_count(type(loaded), resized(loaded.config, sizes))
    return {
        "sizes": {"large": sizes_of(loaded.config).given(), "small": sizes.given()},
        "parameters": {"large": loaded.num_parameters(), "small": small},
    }
