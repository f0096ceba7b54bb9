"""Fewer experts in every layer of a model, one layer after the other in the order of the pass."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.activations.execution_order import execution_steps, prefix_lengths
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.base.batch import Batch, first_batches
from transfuse.base.budget import cache_bytes, token_count
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.progress import Progress
from transfuse.distillation.validation import BatchSplit
from transfuse.merging.fitting.layers import restore_modules, save_modules, submodules
from transfuse.network.model import declaration
from transfuse.shrinking.experts.fit import FitFn, fit_experts
from transfuse.shrinking.experts.layer import ExpertLayer, ExpertModules, expert_layers
from transfuse.shrinking.experts.rows import observed_rows

ROWS_PER_UNIT = 64  # rows that an expert is fitted to, for each of its hidden units
COPIES = 8  # of each row in memory


def fewer_experts(
    large: PreTrainedModel,
    small: PreTrainedModel,
    batches: BatchSplit,
    progress: Progress,
    fit_experts: FitFn = fit_experts,
    store: Store = NO_STORE,
) -> dict[str, Any]:
    """Make a small model out of a large one with more experts, and return which experts stay in each layer.

    Every layer reads what the layers that are already small give, and is fitted to what the large model has behind it.
    One block of each model, and the samples' streams there, are used at a time.

    Args:
        small: a model whose configuration differs in the number of experts alone. Its weights are written in place.
        batches: samples to fit to, and held-out ones that decide.
        fit_experts: makes each layer.
        store: cache of the layers. An interrupted run continues after the cached ones.
    """
    layers = expert_layers(declaration(large))
    _copy_others(large, small, layers)
    counts = {layer.experts: layer.count for layer in expert_layers(declaration(small))}
    train, held_out = (_enough(large, part, layers, share) for part, share in zip(batches, (1.0, 0.25), strict=True))
    steps = [step for step in execution_steps(large, train[0]) if step.is_block]
    lengths = prefix_lengths(steps, [[layer.experts, layer.router.name] for layer in layers])
    caches = [PrefixCache(model, [*train, *held_out], steps) for model in (large, small)]
    facts = {}
    for layer, length in progress.track(list(zip(layers, lengths, strict=True)), "fitting experts"):
        entry = store.load(f"experts {layer.experts}")
        if entry is not None:
            restore_modules(small, entry)
            facts[layer.experts] = entry.facts
            continue
        for cache in caches:
            cache.advance(length)
        rows = (observed_rows(layer, caches[0], caches[1], part) for part in (train, held_out))
        modules = [ExpertModules.of(model, layer) for model in (large, small)]
        fit = fit_experts(modules[0], modules[1], counts[layer.experts], *rows)
        modules[1].write(fit.experts, fit.routing)
        facts[layer.experts] = {"kept": list(fit.kept), "error": fit.error}
        made = submodules(small, (layer.experts, layer.router.name))
        save_modules(store, f"experts {layer.experts}", made, facts[layer.experts])
    return facts


def _enough(
    large: PreTrainedModel, batches: Sequence[Batch], layers: Sequence[ExpertLayer], share: float
) -> Sequence[Batch]:
    """Return the first batches, with as many tokens as the experts are fitted to and as there is room for."""
    width = large.config.hidden_size
    wanted = max(_wanted_rows(large, layer) for layer in layers)
    wanted = share * min(wanted, cache_bytes("block outputs") // (COPIES * width * large.dtype.itemsize))
    return first_batches(batches, partial(token_count, large.config), max(wanted, 1))


def _wanted_rows(large: PreTrainedModel, layer: ExpertLayer) -> int:
    modules = ExpertModules.of(large, layer)
    units = modules.experts.down_proj.numel() // layer.count // large.config.hidden_size
    active: int = large.config.num_experts_per_tok
    return ROWS_PER_UNIT * units * layer.count // active


@torch.no_grad()
def _copy_others(large: PreTrainedModel, small: PreTrainedModel, layers: Sequence[ExpertLayer]) -> None:
    """Copy everything but the experts and their routers."""
    names = [name for layer in layers for name in (layer.experts, layer.router.name)]
    source: Mapping[str, Tensor] = large.state_dict()
    for name, values in small.state_dict().items():
        if not any(name.startswith(f"{own}.") for own in names):
            values.copy_(source[name])
