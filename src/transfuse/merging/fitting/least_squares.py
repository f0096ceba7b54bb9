"""Layer-by-layer least squares: fit each linear map of the mean to the outputs of the aligned parents.

The mean of aligned weights drifts: each layer reads inputs that differ slightly from the parents' inputs, and the error
grows with depth. Here every linear map is fitted by ridge regression, from input to output. It reads the fused model's
own activations, after the layers before it are fitted. Its targets are the weighted mean of the parents' outputs, and
the penalty pulls it toward the mean of their weights. Layers that write into the residual stream also correct the drift
of the stream. Tokens are weighted by their importance for the predictions (`token_importance`). No labels and no
gradient descent are needed. (RegMean, Jin et al., 2212.09849, regresses onto each parent's outputs from that parent's
own inputs, for models with a shared initialization.)

Hidden units and heads need not be means, because the mean of two moderately similar units can be similar to neither.
From the units of all parents, and for heads also the means, those are selected that together explain the output of the
branch best (`unit_selection`), if they do so better than the means. The layer that reads them is fitted afterward. The
last layer is fitted to the parents' predictions (`output_head`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Protocol

from transformers import PreTrainedModel

from transfuse.activations.execution_order import Step, execution_steps, prefix_lengths, steps_within_budget
from transfuse.activations.prefix_cache import PrefixCache
from transfuse.activations.token_importance import PositionWeights, token_importance
from transfuse.base.batch import VALIDATION_EVERY, Batch, batch_size, split_batch, validation_split
from transfuse.base.budget import cache_bytes, token_count
from transfuse.base.cache import NO_STORE, Store
from transfuse.base.counted import counted
from transfuse.base.distributed import ProcessGroup, process_group
from transfuse.base.freed_memory import return_freed_memory
from transfuse.distillation.teacher_weighting import WeightingFn, teacher_weights, uniform
from transfuse.distillation.validation import split_samples
from transfuse.errors import DataError
from transfuse.merging.fitting.fit_data import CarryTargets, Fit, Split
from transfuse.merging.fitting.fit_precision import suits_mixed_precision
from transfuse.merging.fitting.layer_groups import Stage, selectable_units, stages, widest_input
from transfuse.merging.fitting.layers import restore_layers, save_layers, submodules
from transfuse.merging.fitting.layerwise import LayerwiseFit
from transfuse.merging.fitting.output_head import OutputHead, fit_output_head, output_head
from transfuse.network.operations import Linear
from transfuse.network.spec import Spec

ROWS_PER_INPUT = 16  # rows that layers are fitted to, per unit of the widest space in each parent; more gain little
MAX_CANDIDATE_INPUTS = 8192  # largest number of inputs that units are selected from; their moments take 0.5 GB


class ParentView(Protocol):
    """A parent of another shape, shown as if it had the shape of the model that is fitted."""

    def cache(self, batches: Sequence[Batch], steps: Sequence[Step], room: int, mixed: bool) -> PrefixCache:
        """Return the parent's activations in the shape of the fitted model; arguments are as for `PrefixCache`."""
        ...

    def importance(self, linears: Sequence[Linear], batches: Sequence[Batch]) -> dict[str, PositionWeights]:
        """Return what `token_importance` returns, by the names of the fitted model."""
        ...


def least_squares(
    spec: Spec,
    fused: PreTrainedModel,
    parents: Sequence[PreTrainedModel],
    weights: Sequence[float],
    batches: Sequence[Batch],
    weighting: WeightingFn = uniform,
    untouched: Collection[str] = (),
    track: Callable[[Sequence[Stage]], Iterable[Stage]] = lambda stages: stages,
    store: Store = NO_STORE,
    carry: CarryTargets | None = None,
    view: ParentView | None = None,
    counts: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Fit]:
    """Fit every linear map of `fused` in place, the output head last.

    Args:
        spec: the declaration of the tensors as they are stored.
        fused: the mean of the parents.
        parents: the parents in the basis of `fused`.
        weights: one weight per parent. They sum to one. A model with a negative weight is subtracted.
        weighting: method that weights the parents' outputs per sample.
        untouched: names of linear maps that stay the mean.
        track: iterates over the stages and displays progress.
        store: cache of fitted layers. An interrupted fit continues after the cached layers.
        carry: other targets, where a fine-tune is carried; None: the parents' outputs and predictions.
        view: shows the only parent in the shape of `fused`, so that no units are selected; None: it has this shape.
        counts: the units that stay of spaces in which the parents' units stand side by side, by name. The others become
            zero.

    Returns:
        The result of every fit, by the name of the linear map, or of the norm in front of a shared one.

    Raises:
        DataError: there are fewer than two samples, or fewer batches than processes.
    """
    parts = _parts(batches)
    splits = head_splits = [Split(part, partial(teacher_weights, weighting, parents, weights)) for part in parts]
    if carry:
        kept = [carry.kept_split(part) for part in _parts(carry.kept)] if carry.kept else []
        head_splits = carry.head_splits(splits, kept)
        splits = [split.alternating_with(other) for split, other in zip(splits, kept, strict=True)] if kept else splits
    head = output_head(spec, fused)
    head = None if head and head.linear.name in untouched else head
    todo = stages(spec, fused, {*untouched, head.linear.name} if head else untouched)
    importance = _importance(store, parents, todo, validation_split(batches)[0], view)  # of all processes
    layer_splits = _layer_splits(splits, fused, todo, len(parents))
    fitted_on = [batch for split in layer_splits for batch in split.batches]
    mixed = carry is None and suits_mixed_precision(fused, parents, todo, batches)
    steps, models = _prefix_caches(fused, parents, todo, fitted_on, view, mixed)
    layerwise = LayerwiseFit(models, weights, layer_splits, importance)
    max_candidates = MAX_CANDIDATE_INPUTS if view is None else 0
    fits = _fit_stages(layerwise, spec, todo, steps, track, store, max_candidates, counts)
    if head:
        layerwise.advance(len(steps))
        fits |= _fit_head(layerwise, head, head_splits, store)
    return fits


def _parts(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Return this process's training and validation batches. Raises `DataError` if there are too few samples."""
    parts = split_samples(batches, "least squares", usable=lambda batch: True)
    return [_process_part(process_group(), part) for part in parts]


def _process_part(group: ProcessGroup, batches: Sequence[Batch]) -> list[Batch]:
    """Return this process's part of the samples. Raises `DataError` if there are fewer batches than processes."""
    parts = [part for batch in batches for part in split_batch(batch, -(-batch_size(batch) // group.count))]
    if len(parts) < group.count:
        raise DataError(
            f"{counted(len(parts), 'batch')} cannot be shared by {counted(group.count, 'process')};"
            " give more samples or start fewer processes"
        )
    return list(group.shard(parts))


def _layer_splits(
    splits: Sequence[Split], fused: PreTrainedModel, todo: Sequence[Stage], parents: int
) -> tuple[Split, ...]:
    """Return the part of each split that suffices to fit the layers. A layer reads many rows of every sample."""
    widest = widest_input(todo)
    rows = ROWS_PER_INPUT * widest * parents / process_group().count
    tokens = partial(token_count, fused.config)
    train, validation = splits
    return train.first(tokens, rows), validation.first(tokens, rows / (VALIDATION_EVERY - 1))


def _importance(
    store: Store,
    parents: Sequence[PreTrainedModel],
    todo: Sequence[Stage],
    batches: Sequence[Batch],
    view: ParentView | None,
) -> dict[str, PositionWeights]:
    """Return the token importance from the cache, or compute and cache it."""
    entry = store.load("token importance")
    if entry is not None:
        return dict(entry.tensors)
    linears = [linear for stage in todo for linear in stage.linears]
    importance = token_importance(parents, linears, batches) if view is None else view.importance(linears, batches)
    store.keep("token importance", importance)
    return importance


def _prefix_caches(
    fused: PreTrainedModel,
    parents: Sequence[PreTrainedModel],
    todo: Sequence[Stage],
    batches: Sequence[Batch],
    view: ParentView | None,
    mixed: bool,
) -> tuple[list[Step], list[PrefixCache]]:
    """Return the steps that can be cached, and a cache for the fused model and each parent.

    Args:
        mixed: whether all models run in mixed precision.
    """
    linear_names = [linear.name for stage in todo for linear in stage.linears]
    samples = sum(map(batch_size, batches)) * (1 + len(parents))
    steps = steps_within_budget(execution_steps(fused, batches[0], linear_names), samples, cache_bytes("block outputs"))
    room = cache_bytes("parent activations") // len(parents)
    if view is None:
        caches = [PrefixCache(parent, batches, steps, room, mixed) for parent in parents]
    else:
        caches = [view.cache(batches, steps, room, mixed)]
    return steps, [PrefixCache(fused, batches, steps, mixed=mixed), *caches]


def _fit_stages(
    layerwise: LayerwiseFit,
    spec: Spec,
    todo: Sequence[Stage],
    steps: Sequence[Step],
    track: Callable[[Sequence[Stage]], Iterable[Stage]],
    store: Store,
    max_candidates: int,
    counts: Mapping[str, int],
) -> dict[str, Fit]:
    """Fit all stages in order, or restore them from the cache."""
    lengths = prefix_lengths(steps, [stage.module_names() for stage in todo])
    fits: dict[str, Fit] = {}
    for index, stage in enumerate(track(todo)):
        entry = store.load(f"stage {index}")
        if entry is not None:
            fits |= restore_layers(layerwise.fused, entry)
            continue
        return_freed_memory()  # of the alignment, then of each stage
        length = lengths[index]
        layerwise.advance(length)
        group = [other for other, other_length in zip(todo, lengths, strict=True) if other_length == length]
        layerwise.watch(group, min((other for other in lengths if other > length), default=len(steps)))
        changed, stage_fits = _fit_stage(layerwise, spec, stage, todo[index + 1 :], max_candidates, counts)
        save_layers(store, f"stage {index}", submodules(layerwise.fused, changed), stage_fits)
        fits |= stage_fits
    return fits


def _fit_stage(
    layerwise: LayerwiseFit,
    spec: Spec,
    stage: Stage,
    later: Sequence[Stage],
    max_candidates: int,
    counts: Mapping[str, int],
) -> tuple[set[str], dict[str, Fit]]:
    """Fit one stage, with a selection of units if possible. Return the names of the changed layers and the results."""
    units = selectable_units(spec, stage, later)
    parents = len(layerwise.models) - 1
    has_subtracted = min(layerwise.weights) < 0  # whose units are none of the fused model's
    is_cut = units is not None and units.space in counts
    if units is None or (not is_cut and (has_subtracted or units.inputs.numel() * parents > max_candidates)):
        fits = layerwise.fit(stage)
        return set(fits), fits
    reading = next(other for other in later if units.reader in other.linears)
    if is_cut:
        fits = layerwise.fit_with_cut(stage, units, reading, counts[units.space])
    else:
        fits = layerwise.fit_with_selection(stage, units, reading)
    return {*units.outputs, units.reader.name, *fits}, fits


def _fit_head(layerwise: LayerwiseFit, head: OutputHead, splits: Sequence[Split], store: Store) -> dict[str, Fit]:
    """Fit the output head, or restore it from the cache."""
    entry = store.load("output head")
    if entry is not None:
        return restore_layers(layerwise.fused, entry)
    fits = {head.name: fit_output_head(head, layerwise.models, splits)}
    save_layers(store, "output head", submodules(layerwise.fused, fits), fits)
    return fits
